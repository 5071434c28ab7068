# SPDX-License-Identifier: Apache-2.0
"""What a cluster consists of, as it is kept in the store; keys are known here and nowhere else."""
