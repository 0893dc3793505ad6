"""``zstui guild ...``"""

from __future__ import annotations

from zstui.arguments.types import Group, Verb, duration
from zstui.engine import commands as c


def add(guild: Group, verb: Verb) -> None:
    _add_create(guild, verb)
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
        ("leave", "leave a guild, or take back a knock", c.LeaveGuild),
        ("dissolve", "end a guild you created", c.DissolveGuild),
        ("invites", "invites of a guild, and their uses left", c.ListInvites),
    ):
        verb(guild, name, text, lambda a, command=command: command(guild=a.guild)).add_argument("guild")
    for name, text, answer in (
        ("kick", "remove a member", c.KickMember),
        ("admit", "let in a peer that knocked", c.AdmitPeer),
        ("refuse", "send away a peer that knocked", c.RefusePeer),
    ):
        parser = verb(guild, name, text, lambda a, answer=answer: answer(guild=a.guild, peer=a.peer))
        parser.add_argument("guild")
        parser.add_argument("peer")
    knocks = verb(guild, "knocks", "peers that wait to be let in", lambda a: c.ListKnocks(guild=a.guild))
    knocks.add_argument("guild", nargs="?", default="", help="all of yours without it")
    officer = verb(
        guild,
        "officer",
        "name an officer, who may admit, invite, remove, and takes over while you are gone",
        lambda a: c.NameOfficer(guild=a.guild, peer=a.peer, remove=a.remove),
    )
    officer.add_argument("guild")
    officer.add_argument("peer")
    officer.add_argument("--remove", action="store_true", help="take the office back")
    extend = verb(guild, "extend", "let a guild live longer", lambda a: c.ExtendGuild(guild=a.guild, by_s=a.by))
    extend.add_argument("guild")
    extend.add_argument("by", type=duration, help="such as 30m or 2h")
    _add_invites(guild, verb)
    messages = verb(guild, "messages", "what was said", lambda a: c.ListMessages(guild=a.guild, peek=a.peek))
    messages.add_argument("guild")
    messages.add_argument("--peek", action="store_true", help="leave what is unread unread")
    send = verb(guild, "send", "say something", lambda a: c.SendMessage(guild=a.guild, text=a.text))
    send.add_argument("guild")
    send.add_argument("text")


def _add_create(guild: Group, verb: Verb) -> None:
    create = verb(
        guild,
        "create",
        "form a guild",
        lambda a: c.CreateGuild(
            name=a.name,
            ttl_s=a.ttl,
            max_members=a.max,
            admission=a.admission,
            need_memory_mib=a.need_memory,
            need_cores=a.need_cores,
            need_tags=tuple(a.need_tag),
        ),
    )
    create.add_argument("name")
    create.add_argument("--ttl", type=duration, default=3600, metavar="1h")
    create.add_argument("--max", type=int, default=50, metavar="50")
    ways = create.add_mutually_exclusive_group()
    ways.add_argument(
        "--knock", dest="admission", action="store_const", const="knock", default="open", help="you let each one in"
    )
    ways.add_argument("--private", dest="admission", action="store_const", const="invite", help="joined by invite only")
    create.add_argument("--need-memory", type=int, default=0, metavar="MIB", help="of executors' cards")
    create.add_argument("--need-cores", type=int, default=0, metavar="N")
    create.add_argument("--need-tag", action="append", default=[], metavar="TAG")


def _add_invites(guild: Group, verb: Verb) -> None:
    invite = verb(
        guild,
        "invite",
        "make an invite",
        lambda a: c.InviteToGuild(guild=a.guild, uses=a.uses, ttl_s=a.ttl, qr=a.qr),
    )
    invite.add_argument("guild")
    invite.add_argument("--uses", type=int, default=1, metavar="1", help="joins it is good for")
    invite.add_argument("--ttl", type=duration, default=3600, metavar="1h")
    invite.add_argument("--qr", action="store_true", help="also as a QR code")
    revoke = verb(guild, "revoke", "end an invite", lambda a: c.RevokeInvite(guild=a.guild, invite=a.invite))
    revoke.add_argument("guild")
    revoke.add_argument("invite", help="its id as listed, or the string")
    inspect = verb(
        guild,
        "inspect",
        "what an invite says, before joining",
        lambda a: c.ShowInvite(invite=a.invite, qr=a.qr, ask=a.ask),
    )
    inspect.add_argument("invite")
    inspect.add_argument("--qr", action="store_true", help="also as a QR code")
    inspect.add_argument("--ask", action="store_true", help="ask the inviter how often it can still be used")
