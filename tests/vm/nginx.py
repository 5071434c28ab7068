# SPDX-License-Identifier: Apache-2.0
"""An nginx unit without CAP_NET_RAW, as doctor finds it, and as its remedy mends it."""

import json
from pathlib import Path

from tests.vm.systemd import run, shown, unit

SERVICE = "nginx.service"
NGINX = "/usr/sbin/nginx"
CONFIGURATION = """
user www-data;
worker_processes 1;
pid /run/nginx.pid;
include /etc/nginx/modules-enabled/*.conf;
events { }
stream {
  server {
    listen 8080;
    proxy_bind $remote_addr:$remote_port transparent;
    proxy_pass 192.0.2.7:80;
  }
}
"""


def test() -> None:
    Path("/etc/nginx/nginx.conf").write_text(CONFIGURATION)
    started = f"[Service]\nType=forking\nPIDFile=/run/nginx.pid\nExecStart={NGINX}\n"
    unit(SERVICE, f"{started}CapabilityBoundingSet=~CAP_NET_RAW\n")
    # Before it is started, by what systemd says of the unit.
    state, detail, remedy = capability()
    assert state == "missing"
    assert f"{SERVICE} starts nginx without CAP_NET_RAW" in detail
    assert not Path("/run/nginx.pid").exists()
    run("systemctl", "start", SERVICE)
    # By the process: nginx itself runs, and serves nothing.
    assert shown(SERVICE, "ActiveState") == ["active"]
    state, detail, again = capability()
    assert (state, again) == ("missing", remedy)
    assert "is root without CAP_NET_RAW, which its workers need to become www-data" in detail
    run("sh", "-ec", remedy)
    assert capability()[0] == "ok"
    # The list of the unit is added to: all else is as it was.
    (bounding,) = shown(SERVICE, "CapabilityBoundingSet")
    assert {"cap_net_raw", "cap_setuid", "cap_net_bind_service"} <= set(bounding.split())
    run("systemctl", "stop", SERVICE)


def capability() -> tuple[str, str, str]:
    """State, detail and remedy."""
    report = json.loads(run("sh", "-c", "cloud-toa doctor edge --json || true"))
    (found,) = [each for each in report["findings"] if each["name"] == "nginx CAP_NET_RAW"]
    return found["state"], found["detail"], found["remedy_debian"] or ""
