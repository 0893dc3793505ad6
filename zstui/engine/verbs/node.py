"""The node, its peers and their standing."""

from __future__ import annotations

from pathlib import Path

from zstui.engine import commands as c
from zstui.engine import projection, survey, views
from zstui.engine.backup.restore import backup_view
from zstui.engine.backup.take import take
from zstui.engine.errors import BadInput
from zstui.engine.identity.text import clean_text
from zstui.engine.services import NAME_LIMIT, Services
from zstui.engine.store import meta
from zstui.engine.verbs.base import Verb


async def _status(s: Services, _: c.Status) -> views.StatusView:
    return projection.status(s)


async def _peers(s: Services, command: c.ListPeers) -> list[views.PeerView]:
    if command.like:
        return [projection.peer(s, peer) for peer, _ in s.search.like(command.like)]
    return projection.peers(s)


async def _discover(s: Services, _: c.Discover) -> list[views.PeerView]:
    return [projection.peer(s, peer) for peer in await s.rendezvous.executors()]


async def _show_peer(s: Services, command: c.ShowPeer) -> views.PeerDetailView:
    peer = s.net.resolve(command.peer)
    return survey.peer_detail(s, peer, projection.peer(s, peer))


async def _network(s: Services, _: c.ShowNetwork) -> views.NetworkView:
    return survey.network(s)


async def _routes(s: Services, command: c.ListRoutes) -> list[views.RouteView]:
    peer = s.net.resolve(command.peer) if command.peer else ""
    return [route for route in survey.routes(s) if not peer or peer in (route.destination, route.via)]


async def _connect(s: Services, command: c.Connect) -> views.PeerView:
    linked = s.net.connected()
    peer = await s.net.connect(command.address)
    if peer in linked:
        await s.net.improve(peer)
    return projection.peer(s, peer)


async def _name(s: Services, command: c.NamePeer) -> views.PeerView:
    peer = s.net.resolve(command.peer)
    await s.net.rename(peer, command.name)
    return projection.peer(s, peer)


async def _set_name(s: Services, command: c.SetName) -> views.StatusView:
    name = clean_text(command.name, NAME_LIMIT)
    if not name:
        raise BadInput("A name needs at least one visible character.")
    await s.db.write(lambda tx: meta.set_name(tx, name))
    s.profile.name, s.profile.chosen = name, True
    s.net.card_changed()
    return projection.status(s)


async def _block(s: Services, command: c.BlockPeer) -> views.RankView:
    if not 1 <= command.hours <= 24 * 365:
        raise BadInput("A peer is blocked for 1 hour to 1 year (8760 hours).")
    peer = s.net.resolve(command.peer)
    view = await s.reputation.block(peer, command.hours)
    await s.net.disconnect(peer, "blocked by you")
    return view


async def _unblock(s: Services, command: c.UnblockPeer) -> views.RankView:
    return await s.reputation.unblock(s.net.resolve(command.peer))


async def _rank(s: Services, command: c.Rank) -> list[views.RankView]:
    return s.reputation.rank(command.category)


async def _backup(s: Services, command: c.Backup) -> views.BackupView:
    path = Path(command.path)
    if not path.is_absolute():
        raise BadInput("The path of a backup must be absolute.")
    now_us = s.clock.now_us()
    manifest, size = await take(
        s.home,
        path,
        command.passphrase,
        peer_id=s.identity.peer_id,
        name=s.profile.name,
        name_of=s.net.name_of,
        now_us=now_us,
    )
    await s.db.write(lambda tx: meta.set_backed_up_us(tx, now_us))
    s.profile.backed_up_us = now_us
    return backup_view(manifest, path, size)


VERBS: dict[type, Verb] = {
    c.Status: _status,
    c.ListPeers: _peers,
    c.Discover: _discover,
    c.ShowPeer: _show_peer,
    c.ShowNetwork: _network,
    c.ListRoutes: _routes,
    c.Connect: _connect,
    c.NamePeer: _name,
    c.SetName: _set_name,
    c.BlockPeer: _block,
    c.UnblockPeer: _unblock,
    c.Rank: _rank,
    c.Backup: _backup,
}
