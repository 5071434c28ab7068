# SPDX-License-Identifier: Apache-2.0
"""Another program that writes an option of its own, of the same kind, before the sender does."""

from contextlib import AbstractContextManager
from pathlib import Path

from tests.netns.foreign import SOCKOPS, attached

_BODY = """
	unsigned char option[4] = { KIND, 4, 1, 2 };

	if (ctx->op == BPF_SOCK_OPS_HDR_OPT_LEN_CB)
		bpf_reserve_hdr_opt(ctx, sizeof(option), 0);
	else if (ctx->op == BPF_SOCK_OPS_WRITE_HDR_OPT_CB)
		bpf_store_hdr_opt(ctx, option, sizeof(option), 0);
"""


def rival(cgroup: Path, kind: int) -> AbstractContextManager[None]:
    """It is there, in front of what is attached from now on."""
    return attached(cgroup, SOCKOPS, _BODY.replace("KIND", str(kind)), "rival")
