// A js-libp2p peer over QUIC and through relays. Arguments: "relay" to be one, "plain" for no hash table, "gossip" for gossipsub, more addresses to listen at. First line out: {"peer_id", "addresses"}. Then one JSON command a line in, one JSON answer a line out.
import { createInterface } from 'node:readline'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { circuitRelayServer, circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { quic } from '@chainsafe/libp2p-quic'
import { gossipsub } from '@libp2p/gossipsub'
import { identify, identifyPush } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { ping } from '@libp2p/ping'
import { multiaddr } from '@multiformats/multiaddr'
import { peerIdFromString } from '@libp2p/peer-id'
import { createLibp2p } from 'libp2p'
import { CID } from 'multiformats/cid'
import * as Digest from 'multiformats/hashes/digest'

const isRelay = process.argv.includes('relay')
const isPlain = process.argv.includes('plain')
const gossips = process.argv.includes('gossip')
const node = await createLibp2p({
  addresses: { listen: ['/ip4/127.0.0.1/udp/0/quic-v1', ...process.argv.slice(2).filter((a) => a.startsWith('/'))] },
  transports: [quic(), circuitRelayTransport()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  connectionGater: { denyDialMultiaddr: () => false },
  services: {
    identify: identify(),
    identifyPush: identifyPush(),
    ping: ping(),
    ...(gossips ? { pubsub: gossipsub() } : {}),
    ...(isRelay ? { relay: circuitRelayServer() } : {}),
    ...(isPlain
      ? {}
      : { dht: kadDHT({ protocol: '/zerostate/kad/1.0.0', clientMode: false, peerInfoMapper: passthroughMapper }) })
  }
})

const say = (value) => process.stdout.write(JSON.stringify(value) + '\n')
const withDeadline = () => ({ signal: AbortSignal.timeout(8000) })

const cid = (hex) => CID.createV1(0x55, Digest.decode(Uint8Array.from(Buffer.from(hex, 'hex'))))

const heard = []
if (gossips) node.services.pubsub.addEventListener('message', (event) => heard.push(event.detail))

const operations = {
  async subscribe ({ topic }) {
    node.services.pubsub.subscribe(topic)
    return {}
  },
  async publish ({ topic, data }) {
    await node.services.pubsub.publish(topic, Uint8Array.from(Buffer.from(data, 'hex')))
    return {}
  },
  async heard ({ topic }) {
    const messages = heard.filter((m) => m.topic === topic)
    return {
      messages: messages.map((m) => ({ from: m.from.toString(), data: Buffer.from(m.data).toString('hex') })),
      mesh: node.services.pubsub.getMeshPeers(topic)
    }
  },
  async ping ({ address }) {
    for (let attempt = 1; ; attempt++) {
      try {
        return { rtt_ms: await node.services.ping.ping(multiaddr(address), withDeadline()) }
      } catch (error) {
        // One ping at a time goes over a connection, and the hash table pings its contacts, too.
        if (error.name !== 'TooManyOutboundProtocolStreamsError' || attempt === 20) throw error
        await new Promise((resolve) => setTimeout(resolve, 100))
      }
    }
  },
  async identify ({ address }) {
    const connection = await node.dial(multiaddr(address), withDeadline())
    const found = await node.services.identify.identify(connection, withDeadline())
    return {
      peer_id: found.peerId.toString(),
      agent: found.agentVersion,
      protocols: found.protocols,
      listen: found.listenAddrs.map(String),
      observed: found.observedAddr?.toString() ?? ''
    }
  },
  async known ({ peer_id: peerId }) {
    const peers = await node.peerStore.all()
    const peer = peers.find((p) => p.id.toString() === peerId)
    return { addresses: peer?.addresses.map((a) => a.multiaddr.toString()) ?? [], protocols: peer?.protocols ?? [] }
  },
  async connections () {
    return { peers: node.getConnections().filter((c) => c.status === 'open').map((c) => c.remotePeer.toString()) }
  },
  async handle ({ protocol }) {
    await node.handle(protocol, () => {})
    return {}
  },
  async find_peer ({ peer_id: peerId }) {
    const found = await node.peerRouting.findPeer(peerIdFromString(peerId), withDeadline())
    return { addresses: found.multiaddrs.map(String) }
  },
  async provide ({ multihash }) {
    await node.contentRouting.provide(cid(multihash), withDeadline())
    return {}
  },
  async find_providers ({ multihash }) {
    const found = []
    for await (const peer of node.contentRouting.findProviders(cid(multihash), withDeadline())) {
      found.push(peer.id.toString())
      break
    }
    return { peers: found }
  },
  async addresses () {
    return { addresses: node.getMultiaddrs().map(String) }
  },
  async hangup ({ address }) {
    await node.hangUp(multiaddr(address))
    return {}
  }
}

say({ peer_id: node.peerId.toString(), addresses: node.getMultiaddrs().map(String) })
for await (const line of createInterface({ input: process.stdin })) {
  const { op, ...rest } = JSON.parse(line)
  try {
    say(await operations[op](rest))
  } catch (error) {
    say({ error: String(error?.message ?? error) })
  }
}
await node.stop()
process.exit(0)
