# SPDX-License-Identifier: Apache-2.0
"""Edges as people write them, by name; certificates are under ``/etc/edge``."""

EDGES = {
    "plain": """
[[service]]
name = "web"
listen = ["0.0.0.0:80"]
[[service.origin]]
address = "192.0.2.7"
port = 8080
""",
    "everything": """
[access_log]
file = "/var/log/edge.log"
syslog = "/dev/log"
[haproxy]
max_connections = 20000
threads = 2
old_connections = "1h"
[[service]]
name = "game"
listen = ["192.0.2.1:7000-7099", "[2001:db8::1]:7000-7099"]
algorithm = "source"
connect_timeout = "3s"
idle_timeout = "10m"
max_connections = 5000
max_connections_per_client = 50
new_connections_per_client = 20
allow = ["198.51.100.0/24", "2001:db8:1::/48"]
deny = ["198.51.100.66"]
check.interval = "5s"
check.rise = 1
check.fall = 5
[[service.origin]]
address = "192.0.2.7"
weight = 10
max_connections = 100
[[service.origin]]
address = "192.0.2.8"
state = "drain"
[[service.origin]]
address = "2001:db8::9"
port = 7000
backup = true
state = "maintenance"
""",
    "tls": """
[access_log]
file = "/var/log/edge.log"
[[service]]
name = "shop"
listen = ["0.0.0.0:443", "[::]:443"]
protocol = "tls"
server_names = ["*.example.com", "*.shop.example.com"]
[service.tls]
certificates = [
  { certificate = "/etc/edge/a.pem" },
  { certificate = "/etc/edge/b.pem", key = "/etc/edge/b.pem.key" },
]
ciphers = "ECDHE+AESGCM"
ciphersuites = "TLS_AES_128_GCM_SHA256"
min_version = "1.3"
client_ca = "/etc/edge/a.pem"
[[service.origin]]
address = "192.0.2.7"
port = 443
tls = { ca = "/etc/edge/a.pem", server_name = "shop.example", certificate = "/etc/edge/a.pem" }

[[service]]
name = "api"
listen = ["[::]:443", "0.0.0.0:443"]
protocol = "tls"
server_names = ["api.example.com"]
[service.tls]
certificates = [{ certificate = "/etc/edge/a.pem" }]
ciphers = "ECDHE+AESGCM"
ciphersuites = "TLS_AES_128_GCM_SHA256"
min_version = "1.3"
client_ca = "/etc/edge/a.pem"
[[service.origin]]
address = "192.0.2.8"
port = 443
tls = { verify = false }

[[service]]
name = "rest"
listen = ["0.0.0.0:443", "[::]:443"]
protocol = "tls"
[service.tls]
certificates = [{ certificate = "/etc/edge/a.pem" }]
ciphers = "ECDHE+AESGCM"
ciphersuites = "TLS_AES_128_GCM_SHA256"
min_version = "1.3"
client_ca = "/etc/edge/a.pem"
[[service.origin]]
address = "app.example"
port = 443
tls = true
""",
    "names": """
[[service]]
name = "web"
listen = ["0.0.0.0:80"]
check.enabled = false
[[service.origin]]
address = "app.example"
port = 8080
[[service.origin]]
address = "six.example"
port = 8080
[[service.origin]]
address = "gone.example"
port = 8080
""",
    "behind-proxies": """
[access_log]
syslog = "192.0.2.5:514"
[[service]]
name = "web"
listen = ["0.0.0.0:80"]
proxy_from = ["10.0.0.0/8", "192.0.2.1"]
allow = ["198.51.100.0/24"]
max_connections_per_client = 5
[[service.origin]]
address = "192.0.2.7"
port = 8080
proxy = "v2"
[[service.origin]]
address = "192.0.2.8"
port = 8080
toa = false
""",
    "both-addresses": """
[access_log]
file = "/var/log/edge.log"
[[service]]
name = "db"
listen = ["0.0.0.0:5432", "[::]:5432"]
[[service.origin]]
address = ["192.0.2.7", "2001:db8::7"]
port = 5432
weight = 3
max_connections = 50
[[service.origin]]
address = "192.0.2.8"
port = 5432
[[service.origin]]
address = ["2001:db8::9", "192.0.2.9"]
port = 5432
backup = true
toa = false
""",
    "both-by-name": """
[[service]]
name = "shop"
listen = ["0.0.0.0:443", "[::]:443"]
protocol = "tls"
server_names = ["shop.example.com"]
check.enabled = false
[service.tls]
certificates = [{ certificate = "/etc/edge/a.pem" }]
[[service.origin]]
address = "both.example"
port = 80
[[service.origin]]
address = "app.example"
port = 80
state = "drain"
[[service]]
name = "rest"
listen = ["0.0.0.0:443", "[::]:443"]
protocol = "tls"
[service.tls]
certificates = [{ certificate = "/etc/edge/a.pem" }]
[[service.origin]]
address = "gone.example"
port = 80
backup = true
state = "maintenance"
[[service.origin]]
address = "both.example"
port = 80
backup = true
""",
}
