"""Realistic views for screen tests: four peers, two guilds, jobs in every state, channels, requests, hostile names."""

from __future__ import annotations

import time
from hashlib import sha256

import msgspec

from zstui.engine import commands as c
from zstui.engine import views as v

ME = "12D3KooW9f3aTq8bVn2LmRwYcXe5uPjK7hGdS4iZoA6vBtk2d1"
NORTH = "12D3KooWHq7nPz3kXc9vBm5LsRt2YwEg8uJdQfA6oNiZxCr4tG"
SOUTH = "12D3KooWLm2wRt7vKp4xBs9ZcYq6NgHd3uJeQfT8oAiXzVn5sK"
WEST = "12D3KooWQz8rVx5mNc3kLt6BpYw9HsGd2uJeRfA7oTiKzXq1wB"
HOSTILE = "12D3KooWZx4cVb9nMk7jLh5gFd3sAp2oIuYtReWq8EiRtYu6eV"
PEERS = (NORTH, SOUTH, WEST, HOSTILE)

HOSTILE_NAMES = (
    "[/red]",
    "[@click=app.quit]x",
    "\x1b]0;owned\x07title",
    "\x1b]52;c;ZXZpbA==\x07",
    "\u202egnp.exe\u202c",
    "two\nlines\r",
    "[bold red]shout[/]",
    "\x9b31mC1",
    "e\u0301" * 40,
    "名前の長いピア" * 6,
    "",
)
"""Names as a peer might choose them, raw."""

OUTPUT = b"".join(f"frame {n:03d}  blur pass {n % 3}  ok\n".encode() for n in range(1, 41))


def hex_id(text: str) -> str:
    """A 32-byte id in hex, the same for the same ``text``."""
    return sha256(text.encode()).hexdigest()


def peer(peer_id: str, name: str, **fields: object) -> v.PeerView:
    now = int(time.time())
    base: dict[str, object] = {
        "peer_id": peer_id,
        "name": name,
        "address": f"/ip4/192.168.1.{20 + len(name)}/udp/4433/quic-v1/p2p/{peer_id}",
        "state": "online",
        "path": "lan",
        "rtt_ms": 12.4,
        "score": 0.91,
        "capabilities": v.CapabilitiesView(
            executor=True,
            cores=8,
            memory_mib=128,
            timeout_s=30,
            price_per_second_nano=600_000_000,
            price_per_mib_nano=5_000_000,
            tags=("gpu", "fast"),
        ),
        "rtt_history_ms": (12.0, 13.5, 18.2, 11.9, 12.4, 15.0, 12.2, 12.1, 30.4, 12.0, 12.2, 12.4),
        "first_seen_at": now - 10 * 86_400,
        "last_seen_at": now - 2,
        "agent": "zstui/0.1.0",
    }
    return v.PeerView(**(base | fields))  # type: ignore[arg-type]


def peers() -> tuple[v.PeerView, ...]:
    now = int(time.time())
    return (
        peer(NORTH, "north"),
        peer(SOUTH, "south", rtt_ms=48.9, path="direct", score=0.84, rtt_history_ms=(50.1, 48.2, 49.9, 47.5, 48.9)),
        peer(
            WEST,
            "west",
            state="offline",
            path=None,
            rtt_ms=None,
            score=0.5,
            rtt_history_ms=(),
            last_seen_at=now - 7200,
            why="No answer for 2 h.",
            capabilities=v.CapabilitiesView(),
        ),
        peer(
            HOSTILE,
            HOSTILE_NAMES[1],
            path="relay",
            rtt_ms=310.0,
            score=0.18,
            state="blocked",
            blocked_until=now + 5400,
            why="Three receipts with a wrong output hash.",
            agent="[/red]\x1b[31m",
        ),
    )


def routes() -> tuple[v.RouteView, ...]:
    """Two ways to west, and who is soonest with blur."""
    now = int(time.time())
    to_west = {"kind": "peer", "destination": WEST, "destination_name": "west", "learned_at": now - 60}
    blur = {"kind": "module", "destination": "bafkrei" + hex_id("blur.wasm")[:52], "destination_name": "blur.wasm"}
    rows: tuple[dict[str, object], ...] = (
        {"via": NORTH, "via_name": "north", "expected_us": 120_000, "samples": 3, "chosen": True, **to_west}
        | {"why": "the least of 2; learned from 3 dials"},
        {"via": SOUTH, "via_name": "south", "expected_us": 2_500_000, "samples": 1, **to_west}
        | {"why": "2.4 s more than the first; learned from one dial"},
        {"via": NORTH, "via_name": "north", "expected_us": 20_400_000, "samples": 9, "chosen": True, **blur}
        | {"why": "the only way known; learned from 9 bids and results; 3 jobs wait there"},
    )
    return tuple(v.RouteView(**{"weighed_us": row["expected_us"]} | row) for row in rows)  # type: ignore[arg-type]


def network(status: v.StatusView) -> v.NetworkView:
    return v.NetworkView(
        network=status.network,
        addresses=status.addresses,
        reachability=status.reachability,
        dht=v.DhtView(
            contacts=5,
            waiting=1,
            buckets=(
                v.BucketView(prefix_bits=0, contacts=3, waiting=1),
                v.BucketView(prefix_bits=1, contacts=2, waiting=0),
            ),
            provider_keys=7,
            value_keys=4,
            announced=3,
            refreshed_at=int(time.time()) - 240,
            lookups=31,
            lookup_us=84_000,
            lookup_asked=5,
        ),
        relays=(v.RelayView(peer_id=NORTH, name="north", place=True),),
        routes=routes(),
    )


def peer_detail(peer: v.PeerView) -> v.PeerDetailView:
    online = peer.state == "online"
    return v.PeerDetailView(
        peer=peer,
        addresses=(peer.address, f"/ip4/203.0.113.9/udp/4433/quic-v1/p2p/{NORTH}/p2p-circuit/p2p/{peer.peer_id}"),
        dialed=True if online else None,
        protocols=("/ipfs/id/1.0.0", "/ipfs/kad/1.0.0", "/ipfs/ping/1.0.0") if online else (),
        reached_me=True if online else None,
        reached_me_at=int(time.time()) - 12 if online else None,
        table="contact" if online else "unknown",
        prefix_bits=1,
        table_why="a contact: its key shares 1 bit with mine" if online else "not heard of there",
        routes=tuple(route for route in routes() if route.destination == peer.peer_id),
        results=tuple(route for route in routes() if route.kind == "module" and route.via == peer.peer_id),
    )


def member(peer_id: str, role: v.Role, name: str, online: bool = True) -> v.GuildMemberView:
    return v.GuildMemberView(peer_id=peer_id, role=role, name=name, online=online)


def guilds() -> tuple[v.GuildView, ...]:
    now = int(time.time())
    return (
        v.GuildView(
            guild_id=hex_id("render-farm"),
            name="render-farm",
            creator=ME,
            creator_name="alpha",
            role="creator",
            members=(
                member(ME, "creator", "alpha"),
                member(NORTH, "executor", "north"),
                member(SOUTH, "executor", "south"),
                member(WEST, "member", "west", online=False),
            ),
            member_count=4,
            max_members=50,
            expires_at=now + 2470,
            state="joined",
            fingerprint="77ab·90c1",
            epoch=3,
            jobs=3,
            unread=2,
        ),
        v.GuildView(
            guild_id=hex_id("night-shift"),
            name="night-shift",
            creator=NORTH,
            creator_name="north",
            role=None,
            members=(),
            member_count=7,
            max_members=10,
            expires_at=now + 3300,
            state="seen",
        ),
    )


def job(key: str, module: str, state: v.JobState, **fields: object) -> v.JobView:
    now = int(time.time())
    base: dict[str, object] = {
        "job_id": hex_id(key),
        "mine": True,
        "module": module,
        "module_cid": "bafkrei" + hex_id(module)[:52],
        "guild_id": hex_id("render-farm"),
        "guild_name": "render-farm",
        "submitter": ME,
        "submitter_name": "alpha",
        "executor": SOUTH,
        "executor_name": "south",
        "state": state,
        "timeout_us": 30_000_000,
        "max_memory_bytes": 128 << 20,
        "max_cost_u": 30_000_000,
        "created_at": now - 120,
    }
    return v.JobView(**(base | fields))  # type: ignore[arg-type]


def jobs() -> tuple[v.JobView, ...]:
    now = int(time.time())
    done: dict[str, object] = {
        "exit_code": 0,
        "output_hash": hex_id("output"),
        "gas": 48_211_903,
        "gas_exact": True,
        "receipt_id": hex_id("receipt"),
        "finished_at": now - 40,
    }
    return (
        job("running", "blur.wasm", "running", progress=0.66, elapsed_us=20_100_000, memory_bytes=50 << 20),
        job("queued", "primes.wasm", "queued", executor=None, executor_name="", why="north: busy. west: offline."),
        job(
            "done",
            "blur.wasm",
            "done",
            elapsed_us=20_400_000,
            duration_us=20_400_000,
            memory_bytes=52 << 20,
            cost_u=12_500_000,
            paid="unpaid",
            attestations=(NORTH,),
            **done,
        ),
        job(
            "failed",
            "crash.wasm",
            "failed",
            exit_code=134,
            fault="payer",
            duration_us=310_000,
            elapsed_us=310_000,
            why="The module trapped: unreachable instruction.",
            finished_at=now - 300,
        ),
        job(
            "cancelled", "sleep.wasm", "cancelled", elapsed_us=4_000_000, why="Cancelled by you.", finished_at=now - 900
        ),
        job(
            "theirs",
            "mandel.wasm",
            "done",
            mine=False,
            submitter=NORTH,
            submitter_name="north",
            executor=ME,
            executor_name="alpha",
            duration_us=3_200_000,
            elapsed_us=3_200_000,
            memory_bytes=9 << 20,
            cost_u=2_250_000,
            paid="paid",
            **done,
        ),
    )


def channel(key: str, peer_id: str, name: str, state: v.ChannelStateName, **fields: object) -> v.ChannelView:
    base: dict[str, object] = {
        "channel_id": hex_id(key),
        "peer_id": peer_id,
        "peer_name": name,
        "state": state,
        "epoch": 1,
        "mine_u": 84_250_000,
        "theirs_u": 15_750_000,
        "deposit_mine_u": 100_000_000,
        "deposit_theirs_u": 0,
        "sequence": 42,
        "sequence_theirs": 3,
        "expires_at": int(time.time()) + 11_400,
    }
    return v.ChannelView(**(base | fields))  # type: ignore[arg-type]


def channels() -> tuple[v.ChannelView, ...]:
    now = int(time.time())
    return (
        channel("south", SOUTH, "south", "active", at_risk_u=12_500_000),
        channel("north", NORTH, "north", "active", mine_u=5_000_000, theirs_u=45_000_000, deposit_mine_u=50_000_000),
        channel(
            "west",
            WEST,
            "west",
            "closing",
            mine_u=20_000_000,
            theirs_u=0,
            deposit_mine_u=20_000_000,
            sequence=1,
            sequence_theirs=0,
            unacknowledged=1,
            expires_at=now + 900,
            action="west must answer by 14:05, else the last signed state counts.",
        ),
        channel("old", NORTH, "north", "closed", reason="cooperative", expires_at=now - 86_400),
        channel(
            "hostile",
            HOSTILE,
            HOSTILE_NAMES[0],
            "disputed",
            reason="unilateral",
            mine_u=1_000_000,
            theirs_u=0,
            deposit_mine_u=1_000_000,
            action="You must answer within 50 min.",
        ),
    )


def approval(key: str, peer_id: str = SOUTH, name: str = "south", **fields: object) -> v.ApprovalView:
    now = int(time.time())
    base: dict[str, object] = {
        "request_id": hex_id("receipt" + key),
        "peer_id": peer_id,
        "peer_name": name,
        "peer_first_seen_at": now - 10 * 86_400,
        "job_id": hex_id("done"),
        "guild_id": hex_id("render-farm"),
        "guild_name": "render-farm",
        "my_role": "creator",
        "peer_role": "executor",
        "score": 0.91,
        "completed": 120,
        "module": "blur.wasm",
        "exit_code": 0,
        "fault": "none",
        "duration_us": 20_400_000,
        "memory_bytes": 52 << 20,
        "price_per_second_nano": 600_000_000,
        "price_per_mib_nano": 5_000_000,
        "amount_u": 12_500_000,
        "max_cost_u": 30_000_000,
        "receipt_id": hex_id("receipt" + key),
        "agreement_id": hex_id("agreement" + key),
        "checks": (
            v.CheckView(name="signature", ok=True),
            v.CheckView(name="job", ok=True),
            v.CheckView(name="module", ok=True),
            v.CheckView(name="amount", ok=True, detail="20.4 s x 0.600 + 52 MB x 0.005"),
            v.CheckView(name="not paid before", ok=True, detail="seq 43"),
        ),
        "verified": True,
        "channel_id": hex_id("south"),
        "sequence": 43,
        "before_u": 84_250_000,
        "after_u": 71_750_000,
        "peer_before_u": 15_750_000,
        "peer_after_u": 28_250_000,
        "limits": ("south/hour 12.500 of 50.000", "all/day 40.000 of 100.000"),
        "urgency": "ask",
        "why": "above your automatic limit",
        "expires_at": now + 102,
        "state": "waiting",
        "created_at": now - 20,
    }
    return v.ApprovalView(**(base | fields))  # type: ignore[arg-type]


def approvals() -> tuple[v.ApprovalView, ...]:
    return (
        approval("1"),
        approval(
            "2",
            NORTH,
            "north",
            amount_u=3_000_000,
            urgency="typed",
            why="first payment to this peer",
            before_u=5_000_000,
            after_u=2_000_000,
            expires_at=int(time.time()) + 400,
        ),
        approval(
            "3",
            HOSTILE,
            HOSTILE_NAMES[0],
            urgency="blocked",
            verified=False,
            checks=(v.CheckView(name="signature", ok=False, detail="does not match"),),
            why="the receipt's signature does not match",
            expires_at=int(time.time()) + 1000,
        ),
    )


def rank(view: v.PeerView, place: int | None, **fields: object) -> v.RankView:
    now = int(time.time())
    base: dict[str, object] = {
        "rank": place,
        "peer_id": view.peer_id,
        "name": view.name,
        "score": view.score,
        "completed": 120,
        "failed": 3,
        "avg_duration_us": 24_100_000,
        "avg_cost_u": 31_000_000,
        "blacklisted_until": None,
        "success_part": 0.49,
        "speed_part": 0.17,
        "cost_part": 0.16,
        "longevity_part": 0.09,
        "first_seen_at": now - 10 * 86_400,
        "last_seen_at": now - 60,
        "trend": (0.5, 0.55, 0.62, 0.7, 0.66, 0.74, 0.8, 0.86, 0.91),
        "receipts": tuple(hex_id(f"r{n}") for n in range(4)),
    }
    return v.RankView(**(base | fields))  # type: ignore[arg-type]


def ranks() -> tuple[v.RankView, ...]:
    north, south, west, hostile = peers()
    return (
        rank(north, 1),
        rank(south, 2, completed=41, failed=2),
        rank(west, None, completed=2, failed=0, trend=(0.5, 0.52)),
        rank(
            hostile,
            None,
            completed=1,
            failed=6,
            blacklisted_until=int(time.time()) + 5400,
            blacklist_reason="Three receipts with a wrong output hash.",
        ),
    )


def log() -> tuple[v.LogLine, ...]:
    now = time.time_ns() // 1000
    lines: tuple[tuple[v.LogLevel, str, str, str], ...] = (
        ("info", "net", "listening on 0.0.0.0:4433 (eth0)", ""),
        ("info", "net", "north connected over LAN, 12 ms", NORTH),
        ("debug", "net", "handshake with south took 81 ms", SOUTH),
        ("info", "guild", "created render-farm, ends in 1 h", hex_id("render-farm")),
        ("info", "job", "job done: blur.wasm on south, exit 0, 12.500", hex_id("done")),
        ("info", "pay", "south asks 12.500 for blur.wasm; waits for you", hex_id("done")),
        ("warning", "net", "west: no answer for 30 s", WEST),
        ("error", "job", "crash.wasm trapped: unreachable instruction", hex_id("failed")),
    )
    return tuple(
        v.LogLine(at_us=now - (len(lines) - n) * 7_000_000, level=level, area=area, text=text, subject=subject)
        for n, (level, area, text, subject) in enumerate(lines)
    )


def status(**fields: object) -> v.StatusView:
    base: dict[str, object] = {
        "peer_id": ME,
        "name": "alpha",
        "addresses": (f"/ip4/192.168.1.4/udp/4433/quic-v1/p2p/{ME}",),
        "peers": 3,
        "guilds": 1,
        "jobs_running": 1,
        "approvals": 3,
        "owed_to_me_u": 2_250_000,
        "i_owe_u": 12_500_000,
        "balance_u": 89_250_000,
        "network": "eth0:4433 ok",
        "executor": True,
        "metrics": "127.0.0.1:9464",
        "home": "/home/alpha/.local/share/zstui",
        "version": "0.1.0",
    }
    return v.StatusView(**(base | fields))  # type: ignore[arg-type]


def snapshot(**status_fields: object) -> v.Snapshot:
    return v.Snapshot(
        status=status(**status_fields),
        peers=peers(),
        guilds=guilds(),
        jobs=jobs(),
        channels=channels(),
        approvals=approvals(),
        ranks=ranks(),
        log=log(),
    )


def empty(**status_fields: object) -> v.Snapshot:
    """A node that has just started."""
    fields = {
        "peers": 0,
        "guilds": 0,
        "jobs_running": 0,
        "approvals": 0,
        "owed_to_me_u": 0,
        "i_owe_u": 0,
        "balance_u": 0,
    }
    return v.Snapshot(status=status(**(fields | status_fields)))


TILE_COLOURS = ("#fc0000", "#00fc00", "#0000fc", "#fcfc00")


def tile(number: int) -> bytes:
    """A quarter of an 8 x 8 picture, all of one colour, as a job prints it."""
    place = f"# at {number % 2 * 4} {number // 2 * 4} of 8 8"
    return f"P6\n{place}\n4 4\n255\n".encode() + bytes.fromhex(TILE_COLOURS[number][1:]) * 16


def batch_events(batch_id: str, total: int, done: int) -> list[v.Feed]:
    """A batch of ``total`` jobs "tile0", "tile1", …: ``done`` of them are done, the next one runs."""
    running = int(done < total)
    view = v.BatchView(
        batch_id=batch_id,
        name="tiles",
        guild_id=hex_id("render-farm"),
        total=total,
        done=done,
        running=running,
        queued=total - done - running,
        cost_u=20_000 * done,
        max_cost_u=1_000_000,
        state="running" if running else "done",
        created_at=int(time.time()) - 9,
    )
    events: list[v.Feed] = [v.BatchUpdated(view=view)]
    for number in range(total):
        ended: dict[str, object] = {"exit_code": 0, "duration_us": 600_000, "cost_u": 20_000, "finished_at": number + 1}
        state: v.JobState = "done" if number < done else "running" if number == done else "queued"
        place: dict[str, object] = {"batch_id": batch_id, "batch_index": number, "args": (str(number), str(total))}
        one = job(f"tile{number}", "raytrace", state, **place, **(ended if state == "done" else {}))
        events.append(v.JobUpdated(view=one))
    return events


# --- what commands bring about ---------------------------------------------------------------------------------------


def created_guild(me: v.StatusView, command: c.CreateGuild, number: int) -> v.GuildView:
    return v.GuildView(
        guild_id=hex_id(f"{command.name}{number}"),
        name=command.name,
        creator=me.peer_id,
        creator_name=me.name,
        role="creator",
        members=(member(me.peer_id, "creator", me.name),),
        member_count=1,
        max_members=command.max_members,
        expires_at=int(time.time()) + command.ttl_s,
        state="joined",
        admission=command.admission,
        fingerprint="1c0d·55ef",
    )


def submitted_job(me: v.StatusView, spec: c.JobSpec, known: dict[str, v.GuildView], number: int) -> v.JobView:
    guild = next((g for g in known.values() if g.guild_id.startswith(spec.guild) or g.name == spec.guild), None)
    return job(
        f"submitted{number}",
        spec.module.rsplit("/", 1)[-1],
        "queued",
        function=spec.function,
        args=spec.args,
        guild_id=guild.guild_id if guild else spec.guild,
        guild_name=guild.name if guild else "",
        submitter=me.peer_id,
        submitter_name=me.name,
        executor=spec.executor,
        timeout_us=spec.timeout_s * 1_000_000,
        max_memory_bytes=spec.memory_mib << 20,
        max_cost_u=spec.max_price_u,
        created_at=int(time.time()),
    )


def submitted_batch(command: c.SubmitBatch, known: dict[str, v.GuildView], number: int) -> v.BatchView:
    guild = next((g for g in known.values() if command.spec.guild in (g.guild_id, g.name)), None)
    total = len(command.map_lines if command.map_lines is not None else command.map_files or ())
    return v.BatchView(
        batch_id=hex_id(f"batch{number}"),
        name=command.name or command.spec.module.rsplit("/", 1)[-1],
        guild_id=guild.guild_id if guild else command.spec.guild,
        total=total,
        queued=total,
        max_cost_u=command.spec.max_price_u,
        created_at=int(time.time()),
    )


def opened_channel(with_peer: v.PeerView, command: c.OpenChannel, number: int) -> v.ChannelView:
    return channel(
        f"opened{number}",
        with_peer.peer_id,
        with_peer.name,
        "active",
        mine_u=command.amount_u,
        theirs_u=command.theirs_u,
        deposit_mine_u=command.amount_u,
        deposit_theirs_u=command.theirs_u,
        sequence=0,
        sequence_theirs=0,
        expires_at=int(time.time()) + command.expires_s,
    )


def estimate(spec: c.JobSpec, known: list[v.PeerView]) -> v.EstimateView:
    candidates = tuple(
        v.ExecutorView(
            peer_id=p.peer_id,
            name=p.name,
            rank=n,
            score=p.score,
            completed=120 // n,
            price_per_second_nano=p.capabilities.price_per_second_nano,
            price_per_mib_nano=p.capabilities.price_per_mib_nano,
            online=p.state == "online",
            refusal="" if p.state == "online" else f"{p.state}: {p.why}",
            speed=1.5 / n,
            speed_tested=n == 1,
            expected_us=4_000_000 * n,
            expected_cost_u=800_000 * n,
            match="offers gpu; caches this module" if n == 2 else "",
        )
        for n, p in enumerate(known, 1)
    )
    return v.EstimateView(
        max_cost_u=min(spec.max_price_u, 18_640_000),
        typical_cost_u=12_500_000,
        typical_duration_us=20_400_000,
        candidates=candidates,
        here_us=12_000_000,
        elsewhere=(v.SuggestionView(peer_id=WEST, name="kepler", online=True, match="offers gpu"),)
        if spec.wants
        else (),
    )


INVITE_CODE = "otter velvet nine"


QR = tuple("".join("01"[(x * y + x) % 3 == 0] for x in range(45)) for y in range(45))
"""The size of a real invite's code."""


def invite(guild: v.GuildView, command: c.InviteToGuild) -> v.InviteView:
    return v.InviteView(
        invite="zsg2" + guild.guild_id * 2,
        code=INVITE_CODE,
        expires_at=guild.expires_at,
        invite_id=guild.guild_id[:32],
        uses=command.uses,
        qr=QR if command.qr else (),
    )


def issued_invite(guild: v.GuildView, revoked: bool) -> v.IssuedInviteView:
    return v.IssuedInviteView(
        guild_id=guild.guild_id,
        invite_id=guild.guild_id[:32],
        issuer=guild.creator,
        issuer_name=guild.creator_name,
        issued_at=guild.expires_at - 3600,
        expires_at=guild.expires_at,
        uses=3,
        used=1,
        state="revoked" if revoked else "open",
        invite="" if revoked else "zsg2" + guild.guild_id * 2,
        code="" if revoked else INVITE_CODE,
    )


def knock(guild: v.GuildView, peer: str, name: str, role: v.Role = "member") -> v.KnockView:
    return v.KnockView(
        guild_id=guild.guild_id,
        guild_name=guild.name,
        peer_id=peer,
        name=name,
        role=role,
        asked_at=int(time.time()) - 75,
        online=True,
    )


def flood(count: int) -> tuple[v.GuildView, ...]:
    """Guilds that a stranger announced, with names that sort before all others."""
    one = guilds()[1]
    return tuple(
        msgspec.structs.replace(one, guild_id=hex_id(f"flood{n}"), name=f"aaa{n:05d}", creator_name="mallory")
        for n in range(count)
    )


def invite_detail(text: str, qr: bool = False) -> v.InviteDetailView:
    return v.InviteDetailView(
        guild_id=text[4:68],
        name="night-shift",
        creator=WEST,
        creator_name="east",
        issuer=WEST,
        issuer_name="east",
        fingerprint="1f0a 77ab 90c1 44de 8812 05fe c0de 31aa",
        code=INVITE_CODE,
        expires_at=2_000_000_000,
        expired=False,
        addresses=("/ip4/10.0.0.3/udp/4001/quic-v1",),
        joined=False,
        qr=QR if qr else (),
    )


def answered(guild: v.GuildView, peer: str, admit: bool) -> v.GuildView:
    """After an answer to a knock."""
    knock = next((k for k in guild.knocks if k.peer_id == peer), None)
    knocks = tuple(k for k in guild.knocks if k.peer_id != peer)
    if knock is None or not admit:
        return msgspec.structs.replace(guild, knocks=knocks)
    member = v.GuildMemberView(peer_id=peer, role=knock.role, name=knock.name, online=knock.online)
    members = (*guild.members, member)
    return msgspec.structs.replace(guild, knocks=knocks, members=members, member_count=len(members))
