"""Plans of systems that are applied to a cluster that runs: files as text, artifacts as they lie here."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from graph.errors import InvalidRequest
from graph.plan import SystemPlan
from services.deploy.plans import plan_deployment

MOST_CHARACTERS = 2**20


@dataclass(frozen=True)
class Planner:
    """Plans what is applied.

    Attributes:
        profile: The cluster's profile: a name, or the path of its file.
    """

    profile: str

    async def plan(self, system_yaml: str, profile_yaml: str, live: Mapping[str, Mapping[str, str]]) -> SystemPlan:
        """Plan a system.

        Raises:
            InvalidRequest: A file is empty or too long.
            AnyplexError: A file is wrong, or weights are missing.
        """
        for where, content in (("system_yaml", system_yaml), ("profile_yaml", profile_yaml)):
            if len(content) > MOST_CHARACTERS:
                raise InvalidRequest(f"{len(content)} characters, at most {MOST_CHARACTERS} expected", where)
        if not system_yaml.strip():
            raise InvalidRequest("a system file expected", "system_yaml")
        return await asyncio.to_thread(self._plan, system_yaml, profile_yaml, live)

    def _plan(self, system_yaml: str, profile_yaml: str, live: Mapping[str, Mapping[str, str]]) -> SystemPlan:
        with tempfile.TemporaryDirectory() as folder:
            system, profile = Path(folder) / "system.yaml", Path(folder) / "profile.yaml"
            system.write_text(system_yaml)
            profile.write_text(profile_yaml)
            deployment = plan_deployment([str(system)], str(profile) if profile_yaml else self.profile, live=live)
        (plan,) = deployment.systems.values()
        return plan
