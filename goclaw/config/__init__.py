"""Home and settings: where a goclaw lives, and what its user wants of it.

Promise: settings are whole or refused, with every problem named at once and no secret in any message; one
daemon serves a home. It may import the core, the errors and PyYAML, and starts nothing.
"""

from goclaw.config.edit import Edited, get_value, set_value
from goclaw.config.environment import ollama_url
from goclaw.config.home import (
    GatewayInfo,
    Home,
    locate_home,
    lock_holder,
    lock_home,
    prepare_home,
    publish_gateway,
    read_gateway,
    withdraw_gateway,
)
from goclaw.config.live import LiveConfig, Reloaded, ReloadFailed
from goclaw.config.load import Problem, check_settings, is_loopback, load_settings
from goclaw.config.schedule import ScheduleEntry
from goclaw.config.settings import OFFLINE, AgentEntry, ProviderEntry, Settings

__all__ = [
    "OFFLINE",
    "AgentEntry",
    "Edited",
    "GatewayInfo",
    "Home",
    "LiveConfig",
    "Problem",
    "ProviderEntry",
    "ReloadFailed",
    "Reloaded",
    "ScheduleEntry",
    "Settings",
    "check_settings",
    "get_value",
    "is_loopback",
    "load_settings",
    "locate_home",
    "lock_holder",
    "lock_home",
    "ollama_url",
    "prepare_home",
    "publish_gateway",
    "read_gateway",
    "set_value",
    "withdraw_gateway",
]
