"""What the server is made of, for main.py, which imports it late: while this machine is tried out."""

from __future__ import annotations

from zygo.builder.build import Builder
from zygo.builder.uv import find_uv
from zygo.gateway.proxy import Gateway
from zygo.scheduler.loop import Scheduler
from zygo.server.addresses import Addresses
from zygo.server.app_logs import AppLogs
from zygo.server.apps import Apps
from zygo.server.audit import Audit
from zygo.server.deployed import DeployedApps
from zygo.server.deployments import Deployments
from zygo.server.environments import Environments
from zygo.server.front import Front
from zygo.server.ports import PortBook, resolves_localhost_names
from zygo.server.proxy_tokens import ProxyTokens, show_tokens
from zygo.server.secrets import Secrets
from zygo.server.tokens import Tokens

__all__ = [
    "Addresses",
    "AppLogs",
    "Apps",
    "Audit",
    "Builder",
    "DeployedApps",
    "Deployments",
    "Environments",
    "Front",
    "Gateway",
    "PortBook",
    "ProxyTokens",
    "Scheduler",
    "Secrets",
    "Tokens",
    "find_uv",
    "resolves_localhost_names",
    "show_tokens",
]
