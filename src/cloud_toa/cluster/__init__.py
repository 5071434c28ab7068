# SPDX-License-Identifier: Apache-2.0
"""Many edges with one set of settings: the store, the API server with its console, the agent."""
