"""Writes the logs of this folder and `answers.json`: seeded, so a second run gives the same bytes.

`python -m tests.logs.make` writes; `build(seed)` gives one fresh set in memory, for held-out runs. Each file has normal
life (diurnal noise, cron bursts, rotation, steady 404s and password guessing) and at most a few planted anomalies.
"""

# ruff: noqa: E501  (log lines are written whole)

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

HERE = Path(__file__).parent
SEED = 20261122
START = datetime(2026, 11, 21, 22, 0, tzinfo=UTC)


class Planted(msgspec.Struct, frozen=True, kw_only=True):
    """An anomaly: what a claim must contain, in lines `first` to `last` (from 1)."""

    kind: str
    contains: str
    first: int
    last: int


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """A file's lines and what is planted in it; nothing: it is quiet."""

    lines: tuple[str, ...]
    planted: tuple[Planted, ...] = ()


Event = tuple[float, str, str]
"""Seconds since the start, text, and the mark of the anomaly it belongs to (empty: normal)."""


def _poisson(rng: random.Random, per_minute: float, minutes: float, make: Callable[[], str]) -> list[Event]:
    events, at = [], 0.0
    while (at := at + rng.expovariate(per_minute / 60)) < minutes * 60:
        events.append((at, make(), ""))
    return events


def _every(period_s: float, minutes: float, make: Callable[[int], list[str]], phase: float = 7.0) -> list[Event]:
    events, at, n = [], phase, 0
    while at < minutes * 60:
        events += [(at + i * 0.2, text, "") for i, text in enumerate(make(n))]
        at, n = at + period_s, n + 1
    return events


def _burst(
    rng: random.Random, at: float, lasts_s: float, count: int, mark: str, make: Callable[[int], str]
) -> list[Event]:
    return sorted((at + rng.random() * lasts_s, make(i), mark) for i in range(count))


def _log(events: Iterable[Event], stamp: Callable[[float], str], wanted: dict[str, tuple[str, str]]) -> Log:
    ordered = sorted(events)
    lines = tuple(stamp(at) + text if "{t}" not in text else text.replace("{t}", stamp(at)) for at, text, _ in ordered)
    planted = []
    for mark, (kind, contains) in wanted.items():
        numbers = [i for i, event in enumerate(ordered, 1) if event[2] == mark]
        planted.append(Planted(kind=kind, contains=contains, first=numbers[0], last=numbers[-1]))
    return Log(lines=lines, planted=tuple(planted))


def _syslog(at: float) -> str:
    time = START + timedelta(seconds=at)
    return f"{time:%b} {time.day:2d} {time:%H:%M:%S} "


def _iso(at: float) -> str:
    return (START + timedelta(seconds=at)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _clf(at: float) -> str:
    return (START + timedelta(seconds=at)).strftime("%d/%b/%Y:%H:%M:%S +0000")


def _pg(at: float) -> str:
    return (START + timedelta(seconds=at)).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + " UTC "


def _none(at: float) -> str:
    return ""


def _ip(rng: random.Random) -> str:
    return ".".join(str(rng.randint(2, 250)) for _ in range(4))


USERS = ("root", "admin", "deploy", "git", "oracle", "test", "ubuntu", "backup", "alice", "bob")


def _sshd(rng: random.Random) -> Callable[[], str]:
    def make() -> str:
        pid, ip, port = rng.randint(900, 40000), _ip(rng), rng.randint(1024, 65000)
        return rng.choice(
            (
                f"bastion sshd[{pid}]: Accepted publickey for {rng.choice(USERS)} from {ip} port {port} ssh2: RSA SHA256:{rng.getrandbits(64):x}",
                f"bastion sshd[{pid}]: pam_unix(sshd:session): session opened for user deploy(uid=1001) by (uid=0)",
                f"bastion sshd[{pid}]: pam_unix(sshd:session): session closed for user deploy",
                f"bastion sshd[{pid}]: Failed password for invalid user {rng.choice(USERS)} from {ip} port {port} ssh2",
                f"bastion sshd[{pid}]: Connection closed by authenticating user {rng.choice(USERS)} {ip} port {port} [preauth]",
                f"bastion sshd[{pid}]: Received disconnect from {ip} port {port}:11: disconnected by user",
            )
        )

    return make


def _cron(rng: random.Random, host: str) -> Callable[[int], list[str]]:
    return lambda n: (
        [
            f"{host} CRON[{rng.randint(900, 40000)}]: (root) CMD (command -v debian-sa1 > /dev/null && debian-sa1 {i} 1)"
            for i in range(rng.randint(6, 9))
        ]
        + [f"{host} CRON[{rng.randint(900, 40000)}]: pam_unix(cron:session): session closed for user root"]
    )


def sshd_bruteforce(rng: random.Random) -> Log:
    minutes = 240
    events = _poisson(rng, 3, minutes, _sshd(rng)) + _every(3600, minutes, _cron(rng, "bastion"))
    at = rng.uniform(90, 200) * 60
    count = rng.randint(60, 400)
    events += _burst(
        rng,
        at,
        rng.choice((45, 60, 180)),
        count,
        "a",
        lambda i: (
            f"bastion sshd[{rng.randint(900, 40000)}]: Failed password for root from 203.0.113.{rng.randint(1, 9)} port {rng.randint(1024, 65000)} ssh2"
        ),
    )
    return _log(events, _syslog, {"a": ("burst", "Failed password")})


def sshd_normal(rng: random.Random) -> Log:
    minutes = 300
    events = _poisson(rng, 2.5, minutes, _sshd(rng)) + _every(3600, minutes, _cron(rng, "bastion"))
    return _log(events, _syslog, {})


PATHS = (
    "/",
    "/index.html",
    "/cart",
    "/api/v1/items",
    "/api/v1/items/{n}",
    "/static/app.{n}.js",
    "/login",
    "/search?q={n}",
)


def _nginx(rng: random.Random, status: str = "", path: str = "") -> str:
    chosen = status or rng.choices(("200", "304", "301", "404", "499", "500"), (80, 8, 3, 7, 1, 0.15))[0]
    where = (path or rng.choice(PATHS)).replace("{n}", str(rng.randint(1, 99999)))
    method = rng.choices(("GET", "POST", "HEAD"), (85, 12, 3))[0]
    agent = rng.choice(
        ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36", "curl/8.5.0", "Mozilla/5.0 (compatible; bot/2.1)")
    )
    return f'{_ip(rng)} - - [{{t}}] "{method} {where} HTTP/1.1" {chosen} {rng.randint(120, 90000)} "-" "{agent}"'


def nginx_upstream_down(rng: random.Random) -> Log:
    minutes = 60
    events = _poisson(rng, 22, minutes, lambda: _nginx(rng))
    events += _burst(
        rng, rng.uniform(25, 50) * 60, 240, rng.randint(60, 200), "a", lambda i: _nginx(rng, "502", "/api/v1/items")
    )
    return _log(events, _clf, {"a": ("burst", "status_502")})


def nginx_flood(rng: random.Random) -> Log:
    minutes = 50
    events = _poisson(rng, 12, minutes, lambda: _nginx(rng))
    flood = _poisson(rng, rng.randint(70, 120), 7, lambda: _nginx(rng))
    shift = rng.uniform(25, 40) * 60
    events += [(at + shift, text, "a") for at, text, _ in flood]
    return _log(events, _clf, {"a": ("rate_jump", "per minute")})


def nginx_normal(rng: random.Random) -> Log:
    return _log(_poisson(rng, 18, 70, lambda: _nginx(rng)), _clf, {})


UNITS = ("logrotate", "apt-daily", "man-db", "fstrim", "systemd-tmpfiles-clean", "e2scrub_all")


def _journal(rng: random.Random, minutes: float) -> list[Event]:
    def one() -> str:
        unit = rng.choice(UNITS)
        return rng.choice(
            (
                f"node3 systemd[1]: Starting {unit}.service - periodic job...",
                f"node3 systemd[1]: Finished {unit}.service - periodic job.",
                f"node3 systemd[1]: {unit}.service: Deactivated successfully.",
                f"node3 systemd-logind[611]: New session {rng.randint(10, 9999)} of user deploy.",
                f"node3 dhclient[{rng.randint(300, 999)}]: DHCPACK of 10.0.0.{rng.randint(2, 250)} from 10.0.0.1",
                "node3 systemd-resolved[502]: Clock change detected. Flushing caches.",
            )
        )

    return _poisson(rng, 1.4, minutes, one) + _every(3600, minutes, _cron(rng, "node3"))


def unit_restart_loop(rng: random.Random) -> Log:
    minutes, events = 300, _journal(rng, 300)
    at, period, n = rng.uniform(120, 220) * 60, rng.choice((5, 12, 30)), rng.randint(20, 60)
    for i in range(n):
        pid = rng.randint(3000, 60000)
        for j, text in enumerate(
            (
                "node3 systemd[1]: payments.service: Main process exited, code=exited, status=1/FAILURE",
                "node3 systemd[1]: payments.service: Failed with result 'exit-code'.",
                f"node3 systemd[1]: payments.service: Scheduled restart job, restart counter is at {i + 1}.",
                "node3 systemd[1]: Started payments.service - Payments API.",
                f"node3 payments[{pid}]: FATAL could not bind 0.0.0.0:8443: address already in use",
            )
        ):
            events.append((at + i * period + j * 0.3, text, "a"))
    return _log([e for e in events if e[0] < minutes * 60 + 3600], _syslog, {"a": ("burst", "")})


def journal_normal(rng: random.Random) -> Log:
    return _log(_journal(rng, 480), _syslog, {})


def _app(rng: random.Random) -> Callable[[], str]:
    def make() -> str:
        level, said = rng.choices(
            (
                ("info", "request served"),
                ("info", "cache refreshed"),
                ("debug", "heartbeat"),
                ("warning", "slow query"),
                ("error", "payment provider declined the card"),
            ),
            (60, 10, 20, 4, 1.5),
        )[0]
        return json.dumps(
            {
                "ts": "{t}",
                "level": level,
                "service": "shop",
                "msg": said,
                "ms": rng.randint(1, 900),
                "trace": f"{rng.getrandbits(64):016x}",
            }
        )

    return make


def app_new_error(rng: random.Random) -> Log:
    events = _poisson(rng, 12, 60, _app(rng))
    text = json.dumps(
        {
            "ts": "{t}",
            "level": "critical",
            "service": "shop",
            "msg": "ledger checksum mismatch, refusing to write",
            "account": rng.randint(1, 9999),
        }
    )
    events += _burst(rng, rng.uniform(30, 55) * 60, 20, rng.randint(1, 4), "a", lambda i: text)
    return _log(events, _iso, {"a": ("new_message", "ledger checksum mismatch")})


def app_normal(rng: random.Random) -> Log:
    events = _poisson(rng, 14, 60, _app(rng))
    events.append(
        (
            rng.uniform(30, 55) * 60,
            json.dumps({"ts": "{t}", "level": "info", "service": "shop", "msg": "configuration reloaded by operator"}),
            "",
        )
    )
    return _log(events, _iso, {})


def _kernel(rng: random.Random) -> Callable[[], str]:
    def make() -> str:
        return rng.choice(
            (
                f"node7 kernel: [{rng.randint(1000, 99999)}.{rng.randint(100000, 999999)}] eth0: Link is Up - 1Gbps/Full",
                f'node7 kernel: [{rng.randint(1000, 99999)}.{rng.randint(100000, 999999)}] audit: type=1400 audit({rng.randint(10**9, 2 * 10**9)}.123:45): apparmor="STATUS"',
                f"node7 kernel: [{rng.randint(1000, 99999)}.{rng.randint(100000, 999999)}] usb 1-{rng.randint(1, 4)}: new high-speed USB device number {rng.randint(2, 90)} using xhci_hcd",
                f"node7 kernel: [{rng.randint(1000, 99999)}.{rng.randint(100000, 999999)}] perf: interrupt took too long ({rng.randint(2500, 9000)} > {rng.randint(2400, 8000)}), lowering rate",
                f"node7 ntpd[{rng.randint(300, 999)}]: adjusting local clock by {rng.random():.6f}s",
            )
        )

    return make


def kernel_disk_dying(rng: random.Random) -> Log:
    events = _poisson(rng, 1.2, 360, _kernel(rng))
    at = rng.uniform(150, 300) * 60
    events += _burst(
        rng,
        at,
        240,
        rng.randint(15, 60),
        "a",
        lambda i: (
            f"node7 kernel: [{40000 + i}.{rng.randint(100000, 999999)}] blk_update_request: I/O error, dev sda, sector {rng.randint(10**6, 10**9)} op 0x0:(READ)"
        ),
    )
    return _log(events, _syslog, {"a": ("burst", "I/O error")})


def _postgres(rng: random.Random) -> Callable[[], str]:
    def make() -> str:
        pid = rng.randint(200, 9000)
        return rng.choices(
            (
                f"[{pid}] LOG:  checkpoint starting: time",
                f"[{pid}] LOG:  checkpoint complete: wrote {rng.randint(1, 900)} buffers ({rng.random():.1f}%); 0 WAL file(s) added",
                f"[{pid}] LOG:  connection authorized: user=app database=shop",
                f"[{pid}] LOG:  duration: {rng.random() * 900:.3f} ms  statement: SELECT * FROM orders WHERE id = {rng.randint(1, 9999)}",
                f'[{pid}] ERROR:  duplicate key value violates unique constraint "orders_pkey"',
            ),
            (5, 5, 30, 30, 1),
        )[0]

    return make


def postgres_out_of_connections(rng: random.Random) -> Log:
    events = _poisson(rng, 9, 90, _postgres(rng))
    events += _burst(
        rng,
        rng.uniform(40, 80) * 60,
        90,
        rng.randint(30, 120),
        "a",
        lambda i: f"[{rng.randint(200, 9000)}] FATAL:  sorry, too many clients already",
    )
    return _log(events, _pg, {"a": ("burst", "too many clients")})


def backup_normal(rng: random.Random) -> Log:
    """A noisy nightly backup, the same every two hours, and rotation; nothing is wrong."""
    minutes = 560

    def nightly(n: int) -> list[str]:
        files = [
            f"vault borg[{rng.randint(900, 9999)}]: archived /srv/data/part-{rng.randint(1, 9999)}.bin ({rng.randint(1, 900)} MB)"
            for _ in range(rng.randint(25, 38))
        ]
        return [
            "vault borg[77]: backup started",
            *files,
            f"vault borg[77]: backup finished: {len(files)} files, 0 errors",
        ]

    events = _every(7200, minutes, nightly, 600) + _poisson(
        rng,
        1.5,
        minutes,
        lambda: (
            f"vault smartd[{rng.randint(300, 999)}]: Device: /dev/sda [SAT], SMART Usage Attribute: 194 Temperature_Celsius changed from {rng.randint(30, 36)} to {rng.randint(30, 36)}"
        ),
    )
    events += _every(
        14_400,
        minutes,
        lambda n: [
            "vault systemd[1]: Starting logrotate.service - Rotate log files...",
            'vault rsyslogd[412]: [origin software="rsyslogd"] rsyslogd was HUPed',
            "vault systemd[1]: logrotate.service: Deactivated successfully.",
        ],
        3000,
    )
    return _log(events, _syslog, {})


def _worker(rng: random.Random) -> str:
    return rng.choices(
        (
            f"job {rng.randint(1, 99999)} done in {rng.randint(5, 900)} ms",
            f"picked job {rng.randint(1, 99999)} from queue mail",
            f"WARN job {rng.randint(1, 99999)} retrying in {rng.randint(1, 9)} s",
            "queue mail is empty",
        ),
        (50, 50, 2, 15),
    )[0]


def worker_untimed(rng: random.Random) -> Log:
    """No times at all: the file arrives at once, so only shares can tell."""
    n, at = 1500, rng.randint(500, 1200)
    lines: list[Event] = [(float(i), _worker(rng), "") for i in range(n)]
    lines += [
        (
            at + i * 0.5,
            f"ERROR smtp connection refused by relay-{rng.randint(1, 3)}: giving up on job {rng.randint(1, 99999)}",
            "a",
        )
        for i in range(rng.randint(30, 90))
    ]
    return _log(lines, _none, {"a": ("burst", "connection refused")})


def worker_normal(rng: random.Random) -> Log:
    return _log([(float(i), _worker(rng), "") for i in range(1500)], _none, {})


def _host(rng: random.Random, spike: tuple[int, int] | None) -> Log:
    events: list[Event] = []
    for i in range(700):
        hot = spike is not None and spike[0] <= i < spike[1]
        cpu = min(
            100.0,
            rng.uniform(88, 99) if hot else abs(rng.gauss(14, 6)) + (rng.uniform(40, 70) if rng.random() < 0.03 else 0),
        )
        load = rng.uniform(6, 9) if hot else abs(rng.gauss(0.6, 0.25))
        top = f"python:{int(cpu)}%" if hot else rng.choice(("node:9%", "postgres:6%", "dockerd:4%"))
        events.append(
            (
                i * 5.0,
                f"host cpu={cpu:.1f}% mem={rng.gauss(41, 1):.1f}% disk=71% load1={load:.2f} procs={rng.randint(305, 318)} top={top}",
                "a" if hot else "",
            )
        )
    return _log(events, _none, {} if spike is None else {"a": ("metric_shift", "cpu rose")})


def host_cpu_stuck(rng: random.Random) -> Log:
    at = rng.randint(200, 500)
    return _host(rng, (at, at + rng.randint(40, 120)))


def host_normal(rng: random.Random) -> Log:
    return _host(rng, None)


MAKERS: dict[str, Callable[[random.Random], Log]] = {
    "sshd-bruteforce.log": sshd_bruteforce,
    "nginx-upstream-down.log": nginx_upstream_down,
    "nginx-flood.log": nginx_flood,
    "unit-restart-loop.log": unit_restart_loop,
    "app-new-error.jsonl": app_new_error,
    "kernel-disk.log": kernel_disk_dying,
    "postgres-connections.log": postgres_out_of_connections,
    "worker-untimed.log": worker_untimed,
    "host-cpu.log": host_cpu_stuck,
    "quiet-sshd.log": sshd_normal,
    "quiet-nginx.log": nginx_normal,
    "quiet-journal.log": journal_normal,
    "quiet-app.jsonl": app_normal,
    "quiet-backup.log": backup_normal,
    "quiet-worker.log": worker_normal,
    "quiet-host.log": host_normal,
}


def build(seed: int) -> dict[str, Log]:
    """All logs of one seed, by file name."""
    return {name: make(random.Random(f"{seed}/{name}")) for name, make in MAKERS.items()}


def main() -> None:
    logs = build(SEED)
    for name, log in logs.items():
        (HERE / name).write_text("\n".join(log.lines) + "\n", encoding="utf-8")
    answers = {name: log.planted for name, log in logs.items()}
    (HERE / "answers.json").write_bytes(msgspec.json.format(msgspec.json.encode(answers), indent=2) + b"\n")


if __name__ == "__main__":
    main()
