# SPDX-License-Identifier: Apache-2.0
"""What comes from others and is read by us, given bytes that nobody would think of.

A target is a module with ``one(data)``: it returns, whatever the bytes, or something is wrong.
"""
