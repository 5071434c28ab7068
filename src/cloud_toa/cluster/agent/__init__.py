# SPDX-License-Identifier: Apache-2.0
"""A node of a cluster: it follows an API server's settings, and says what became of them."""
