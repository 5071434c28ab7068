# SPDX-License-Identifier: Apache-2.0
"""HAProxy, as an edge runs it: what services are, its configuration, its process, its log."""
