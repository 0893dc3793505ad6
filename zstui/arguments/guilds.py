"""``zstui guild ...``"""

from __future__ import annotations

from zstui.arguments.types import Group, Verb, duration
from zstui.engine import commands as c


def add(guild: Group, verb: Verb) -> None:
    create = verb(
        guild,
        "create",
        "form a guild",
        lambda a: c.CreateGuild(name=a.name, ttl_s=a.ttl, max_members=a.max, private=a.private),
    )
    create.add_argument("name")
    create.add_argument("--ttl", type=duration, default=3600, metavar="1h")
    create.add_argument("--max", type=int, default=50, metavar="50")
    create.add_argument("--private", action="store_true", help="joined by invite only")
    verb(guild, "list", "guilds joined and seen", lambda a: c.ListGuilds())
    join = verb(guild, "join", "join a guild", lambda a: c.JoinGuild(guild=a.guild, role=a.role))
    join.add_argument("guild", help="guild id, name, or invite")
    join.add_argument(
        "--role",
        choices=("executor", "member", "observer"),
        default="member",
        help="joining as executor is your consent to run its members' jobs",
    )
    for name, text, command in (
        ("leave", "leave a guild", c.LeaveGuild),
        ("dissolve", "end a guild you created", c.DissolveGuild),
        ("invite", "make an invite", c.InviteToGuild),
        ("messages", "what was said", c.ListMessages),
    ):
        verb(guild, name, text, lambda a, command=command: command(guild=a.guild)).add_argument("guild")
    kick = verb(guild, "kick", "remove a member", lambda a: c.KickMember(guild=a.guild, peer=a.peer))
    kick.add_argument("guild")
    kick.add_argument("peer")
    send = verb(guild, "send", "say something", lambda a: c.SendMessage(guild=a.guild, text=a.text))
    send.add_argument("guild")
    send.add_argument("text")
