# SPDX-License-Identifier: Apache-2.0
"""``python -m cloud_toa``: the command line."""

import sys

from cloud_toa.cli import main

sys.exit(main())
