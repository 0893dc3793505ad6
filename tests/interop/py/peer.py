"""A py-libp2p peer over QUIC, run by its own interpreter.

First line out: {"peer_id", "addresses"}. Then one JSON command a line in, one JSON answer a line out.
"""

import json
import logging
import sys
import time

import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.host.exceptions import StreamFailure
from libp2p.host.ping import PingService
from libp2p.identity.identify.identify import ID as IDENTIFY
from libp2p.identity.identify.pb.identify_pb2 import Identify
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service import background_trio_service
from libp2p.utils import read_length_prefixed_protobuf
from multiaddr import Multiaddr

logging.disable(logging.CRITICAL)


def say(value):
    print(json.dumps(value), flush=True)


async def connected(host, address):
    info = info_from_p2p_addr(Multiaddr(address))
    await host.connect(info)
    return info.peer_id


async def ping(host, address, **_):
    peer = await connected(host, address)
    began = time.perf_counter()
    await PingService(host).ping(peer)
    return {"rtt_ms": (time.perf_counter() - began) * 1000}


async def identify(host, address, **_):
    peer = await connected(host, address)
    stream = await host.new_stream(peer, [IDENTIFY])
    found = Identify()
    found.ParseFromString(await read_length_prefixed_protobuf(stream, use_varint_format=True))
    await stream.close()
    return {
        "peer_id": peer.to_string(),
        "agent": found.agent_version,
        "protocols": list(found.protocols),
        "listen": [str(Multiaddr(a)) for a in found.listen_addrs],
        "observed": str(Multiaddr(found.observed_addr)),
    }


async def known(host, peer_id, **_):
    peer = ID.from_base58(peer_id)
    store = host.get_peerstore()
    return {"addresses": [str(a) for a in store.addrs(peer)], "protocols": store.get_protocols(peer)}


async def connections(host, **_):
    return {"peers": [p.to_string() for p in host.get_network().connections]}


async def hangup(host, address, **_):
    await host.disconnect(info_from_p2p_addr(Multiaddr(address)).peer_id)
    return {}


async def subscribe(host, topic, **_):
    subscription = await host.pubsub.subscribe(topic)

    async def read():
        while True:
            message = await subscription.get()
            host.heard.append((topic, {"from": ID(message.from_id).to_string(), "data": message.data.hex()}))

    host.nursery.start_soon(read)
    return {}


async def publish(host, topic, data, **_):
    await host.pubsub.publish(topic, bytes.fromhex(data))
    return {}


async def heard(host, topic, **_):
    mesh = [p.to_string() for p in host.gossip.mesh.get(topic, ())]
    return {"messages": [message for where, message in host.heard if where == topic], "mesh": mesh}


OPERATIONS = {f.__name__: f for f in (ping, identify, known, connections, hangup, subscribe, publish, heard)}


async def main():
    host = new_host(key_pair=create_new_key_pair(), enable_quic=True, enable_tcp=False)
    host.heard = []
    host.gossip = GossipSub([PROTOCOL_ID_V11], degree=6, degree_low=4, degree_high=12, heartbeat_interval=1)
    host.pubsub = Pubsub(host, host.gossip)
    async with (
        host.run([Multiaddr("/ip4/127.0.0.1/udp/0/quic-v1")]),
        background_trio_service(host.pubsub),
        background_trio_service(host.gossip),
        trio.open_nursery() as host.nursery,
    ):
        await host.pubsub.wait_until_ready()
        addresses = [str(a) for a in host.get_addrs()]
        say({"peer_id": host.get_id().to_string(), "addresses": addresses})
        while line := await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            command = json.loads(line)
            operation = OPERATIONS[command.pop("op")]
            try:
                with trio.fail_after(8):
                    try:
                        answer = await operation(host, **command)
                    except StreamFailure:  # On a busy machine it gives up a stream now and then.
                        answer = await operation(host, **command)
            except Exception as error:
                answer = {"error": f"{error!r} from {error.__cause__ or error.__context__!r}"}
            say(answer)
        host.nursery.cancel_scope.cancel()


trio.run(main)
