# SPDX-License-Identifier: Apache-2.0
"""The queue datapath: the sender for kernels without the eBPF hooks."""
