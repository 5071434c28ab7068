# SPDX-License-Identifier: Apache-2.0
"""One edge: settings become a running datapath, which is supervised and reported on."""
