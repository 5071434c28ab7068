# SPDX-License-Identifier: Apache-2.0
"""The eBPF datapaths: a sender (edge) and a receiver (origin) inside the kernel."""
