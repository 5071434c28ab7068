# SPDX-License-Identifier: Apache-2.0
"""The doctor and the quick test, each as a process of its own with a limit of time.

Both change to other network namespaces and mounts, which is nothing to be done in here; and what
hangs in them is to hang nobody else.
"""

import asyncio
import json
import subprocess
import sys
from typing import Any

from cloud_toa.cluster.model.protocol import Finding, Outcome, Test
from cloud_toa.doctor import remedies
from cloud_toa.errors import ToaError

_PATIENCE = 60.0
_one_test = asyncio.Lock()
"""Two would have the same cable."""


async def findings() -> list[Finding]:
    """The doctor's report of this host as a node, with the remedies for its system.

    Raises:
        ToaError: it did not come about.
    """
    host = remedies.os_release()
    debian = "debian" in f"{host.get('ID', '')} {host.get('ID_LIKE', '')}"
    report = await _said("doctor", "node", "--json")
    return [_finding(each, debian=debian) for each in report["findings"]]


def _finding(found: dict[str, Any], *, debian: bool) -> Finding:
    remedy = found["remedy_debian" if debian else "remedy_rhel"] or ""
    # What is not needed has a remedy where that would make something better.
    better = "warning" if remedy else "ok"
    state = {"ok": "ok", "missing": "missing"}.get(found["state"], better)
    what = f"{found['name']}: {found['detail']}"
    return Finding(what=what, state=state, remedy=remedy)  # type: ignore[arg-type]


async def test(asked: Test) -> Outcome:
    """Make the connection; whatever becomes of it is the outcome."""
    # One that looks like an option is no service's name.
    client = ("--client", asked.client) if asked.client is not None else ()
    try:
        async with _one_test:
            said = await _said("edge", "test", "--json", *client, "--", asked.service)
    except ToaError as error:
        return Outcome(client=asked.client or "", service=asked.service, trouble=str(error))
    answer = said["origin_saw"]
    return Outcome(
        client=said["client"],
        service=f"{asked.service} at {said['service']}",
        origin=said["origin"],
        packets=said["option_in"],
        answer=None if answer is None else {key: str(value) for key, value in answer.items()},
        good=said["good"],
        trouble=said["trouble"],
    )


async def _said(*words: str) -> Any:  # noqa: ANN401  (what JSON has)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cloud_toa", *words,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(_PATIENCE):
            out, err = await process.communicate()
        return json.loads(out)
    except TimeoutError:
        raise ToaError(f"cloud-toa {' '.join(words)} took more than {_PATIENCE:.0f} s") from None
    except ValueError:
        why = err.decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
        raise ToaError(why[0].removeprefix("cloud-toa: ")) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
