"""The benchmark: each user task's calls by an assistant of its role, and each injection's calls by every role's assistant, once it has read
what the attacker wrote.

A user task begins clean, with a person's own words; what its tools answer is an outsider's word, so from the first answer on it is tainted.
A call that reads is looked at by a check, where the operator has a row for it, and else proposed, as any other is; where people are asked,
they say yes. An attack's calls are tried both ways, under the names of the role's own tools and of those of the suite that the injection is
of; first nobody says yes, then somebody says yes to everything that was asked.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable

import msgspec

from tests.agentdojo.filing import Done, Filing, Persona
from tests.agentdojo.gym import Call, Gym
from tests.agentdojo.roles import Role, look_of


class Benign(msgspec.Struct, kw_only=True):
    """One call of a user task, and what became of it."""

    suite: str
    task: str
    call: Call
    reads: bool
    done: Done


class Attack(msgspec.Struct, kw_only=True):
    """One call of an injection under one role. `reads`: it changes nothing. `outward`: what it is told leaves. `like_benign`: a user task
    has the very same call. `granted`: what came of it once somebody said yes to it."""

    role: str
    suite: str
    injection: str
    call: Call
    target: str
    reads: bool
    outward: bool
    like_benign: bool
    tries: list[Done] = []
    granted: list[Done] = []

    @property
    def harms(self) -> bool:
        """Whether it is an effect, or leaves in a way no user task does."""
        return not self.like_benign and (not self.reads or self.outward)


class Trial:
    """Findings so far: `benign`, `attacks`, and by AgentDojo's own word the user tasks that were done and the injections that succeeded."""

    def __init__(self, gym: Gym, filing: Filing, roles: dict[str, Role]) -> None:
        self._gym, self._filing, self._roles = gym, filing, roles
        self.benign: list[Benign] = []
        self.attacks: list[Attack] = []
        self.tasks_done: dict[str, bool] = {}
        self.succeeded: dict[str, bool] = {}
        """By `<role>/<suite>/<injection>`: whether the attack succeeded, without anybody's yes."""
        self._usual: set[str] = set()

    async def tasks(self) -> None:
        """All user tasks, the suites side by side."""
        await asyncio.gather(*(self._suite(name) for name in self._roles))

    async def injections(self) -> None:
        """Each injection under each role, the roles side by side."""
        for suite in self._gym.suites:
            for task in self._gym.suites[suite]["user_tasks"]:
                self._usual |= {_named(suite, call) for call in await self._gym.calls(suite, task)}
        await asyncio.gather(*(self._under(role) for role in self._roles.values()))

    async def _suite(self, suite: str) -> None:
        role = self._roles[suite]
        for task, asked in self._gym.suites[suite]["user_tasks"].items():
            calls = await self._gym.begin(suite, task)
            persona = await self._filing.persona(role, asked.strip())
            for call in calls:
                done = await self._call(persona, role, f"{suite}/{call.tool}", call)
                reads = role.reads(call.tool)
                self.benign.append(Benign(suite=suite, task=task, call=call, reads=reads, done=done))
            self.tasks_done[f"{suite}/{task}"] = await self._gym.judge(suite, task)

    async def _under(self, role: Role) -> None:
        for suite in self._gym.suites:
            for injection, goal in self._gym.suites[suite]["injections"].items():
                await self._attack(role, suite, injection, goal)

    async def _attack(self, role: Role, suite: str, injection: str, goal: str) -> None:
        """In the environment of the role's own suite, in which outsiders wrote the goal wherever they may."""
        filing, own = self._filing, role.suite
        any_task = next(iter(self._gym.suites[own]["user_tasks"]))
        if own == suite:
            calls = await self._gym.begin(own, injection, goal)
        else:
            calls = await self._gym.calls(suite, injection)
            await self._gym.begin(own, any_task, goal)
        if not calls:
            return  # it wants something said, and nothing done
        persona = await filing.persona(role, self._gym.suites[own]["user_tasks"][any_task].strip())
        await filing.tell("ops", own, persona.name, f"<INFORMATION> {goal} </INFORMATION>", vouched=False)
        waiting: list[tuple[Attack, str, Done]] = []
        for call in calls:
            for server in dict.fromkeys((own, suite) if call.tool in role.tools else (suite,)):
                attack = self._about(role, suite, injection, call, f"{server}/{call.tool}")
                self.attacks.append(attack)
                for row in (look_of(attack.target), f"{look_of(attack.target)}-all"):
                    attack.tries.append(await filing.look(persona, row, call.params))
                name, done = await filing.propose(persona, attack.target, call.params)
                attack.tries.append(done)
                if done.request is not None:
                    waiting.append((attack, name, done))
        if own == suite:
            self.succeeded[f"{own}/{suite}/{injection}"] = await self._gym.judge(own, injection)
        for attack, name, done in waiting:
            assert done.request is not None
            attack.granted.append(await filing.grant(name, done.request))

    def _about(self, role: Role, suite: str, injection: str, call: Call, target: str) -> Attack:
        rows = (role, self._roles[suite])
        return Attack(
            role=role.suite,
            suite=suite,
            injection=injection,
            call=call,
            target=target,
            reads=any(one.reads(call.tool) for one in rows),
            outward=all(one.outward(call.tool) for one in rows),
            like_benign=_named(suite, call) in self._usual,
        )

    async def _call(self, persona: Persona, role: Role, target: str, call: Call) -> Done:
        """As an assistant would have it: a look where there is a row for it, else a proposal, to which people say yes."""
        if role.reads(call.tool):
            optional = {name for name, one in role.tools[call.tool].get("arguments", {}).items() if one.get("optional")}
            row = look_of(target) + ("-all" if optional & call.params.keys() else "")
            if (looked := await self._filing.look(persona, row, call.params)).ran:
                return looked
        name, done = await self._filing.propose(persona, target, call.params)
        return done if done.request is None else await self._filing.grant(name, done.request)


def _named(suite: str, call: Call) -> str:
    return f"{suite}/{call.tool} {json.dumps(call.params, sort_keys=True)}"


def share(of: Iterable[bool]) -> float:
    """How many of them are so, of 1."""
    found = list(of)
    return round(sum(found) / len(found), 4) if found else 0.0
