# SPDX-License-Identifier: Apache-2.0
"""The API server: what operators, their browsers and nodes ask of a cluster, over HTTP."""
