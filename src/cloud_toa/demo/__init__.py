# SPDX-License-Identifier: Apache-2.0
"""The main job on one machine: clients, an edge and an origin in network namespaces."""
