// A go-libp2p peer over QUIC. First line out: {"peer_id", "addresses"}. Then one JSON command a line in, one JSON answer a line out.
// With "relay" as its argument it is a relay; with the address of one it reserves a place there.
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
)

type command struct {
	Op       string `json:"op"`
	Address  string `json:"address"`
	PeerID   string `json:"peer_id"`
	Protocol string `json:"protocol"`
	Topic    string `json:"topic"`
	Data     string `json:"data"`
}

type answer map[string]any

// gossip is made at the first subscription.
var gossip struct {
	router *pubsub.PubSub
	topics map[string]*pubsub.Topic
	lock   sync.Mutex
	heard  []answer
}

func main() {
	options := []libp2p.Option{
		libp2p.ListenAddrStrings("/ip4/127.0.0.1/udp/0/quic-v1"),
		libp2p.Transport(quic.NewTransport),
		libp2p.EnableRelay(),
	}
	role := ""
	if len(os.Args) > 1 {
		role = os.Args[1]
	}
	if role == "relay" {
		options = append(options, libp2p.EnableRelayService(), libp2p.ForceReachabilityPublic())
	}
	node, err := libp2p.New(options...)
	if err != nil {
		panic(err)
	}
	defer node.Close()
	addresses := []string{}
	for _, a := range node.Addrs() {
		addresses = append(addresses, fmt.Sprintf("%s/p2p/%s", a, node.ID()))
	}
	if role != "" && role != "relay" {
		if err := reserve(node, role); err != nil {
			panic(err)
		}
		addresses = append(addresses, fmt.Sprintf("%s/p2p-circuit/p2p/%s", role, node.ID()))
	}
	say(answer{"peer_id": node.ID().String(), "addresses": addresses})
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var c command
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			panic(err)
		}
		result, err := carryOut(node, c)
		if err != nil {
			result = answer{"error": err.Error()}
		}
		say(result)
	}
}

func reserve(node host.Host, address string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Second)
	defer cancel()
	relay, err := dial(ctx, node, address)
	if err != nil {
		return err
	}
	_, err = client.Reserve(ctx, node, *relay)
	return err
}

func say(value answer) {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(text))
}

func dial(ctx context.Context, node host.Host, address string) (*peer.AddrInfo, error) {
	info, err := peer.AddrInfoFromString(address)
	if err != nil {
		return nil, err
	}
	return info, node.Connect(ctx, *info)
}

func carryOut(node host.Host, c command) (answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Second)
	defer cancel()
	ctx = network.WithAllowLimitedConn(ctx, "circuits are tested, too")
	switch c.Op {
	case "ping":
		info, err := dial(ctx, node, c.Address)
		if err != nil {
			return nil, err
		}
		result := <-ping.Ping(ctx, node, info.ID)
		return answer{"rtt_ms": float64(result.RTT.Microseconds()) / 1000}, result.Error
	case "identify":
		info, err := dial(ctx, node, c.Address)
		if err != nil {
			return nil, err
		}
		return known(node, info.ID)
	case "known":
		id, err := peer.Decode(c.PeerID)
		if err != nil {
			return nil, err
		}
		return known(node, id)
	case "connections":
		ids := []string{}
		for _, id := range node.Network().Peers() {
			ids = append(ids, id.String())
		}
		return answer{"peers": ids}, nil
	case "handle":
		node.SetStreamHandler(protocol.ID(c.Protocol), func(s network.Stream) { s.Close() })
		return answer{}, nil
	case "subscribe":
		return answer{}, subscribe(node, c.Topic)
	case "publish":
		data, err := hex.DecodeString(c.Data)
		if err != nil {
			return nil, err
		}
		return answer{}, gossip.topics[c.Topic].Publish(ctx, data)
	case "heard":
		gossip.lock.Lock()
		defer gossip.lock.Unlock()
		mesh := []string{}
		for _, id := range gossip.topics[c.Topic].ListPeers() {
			mesh = append(mesh, id.String())
		}
		return answer{"messages": append([]answer{}, gossip.heard...), "mesh": mesh}, nil
	case "hangup":
		info, err := peer.AddrInfoFromString(c.Address)
		if err != nil {
			return nil, err
		}
		return answer{}, node.Network().ClosePeer(info.ID)
	}
	return nil, fmt.Errorf("no operation %q", c.Op)
}

func subscribe(node host.Host, name string) error {
	if gossip.router == nil {
		router, err := pubsub.NewGossipSub(context.Background(), node)
		if err != nil {
			return err
		}
		gossip.router, gossip.topics = router, map[string]*pubsub.Topic{}
	}
	topic, err := gossip.router.Join(name)
	if err != nil {
		return err
	}
	subscription, err := topic.Subscribe()
	if err != nil {
		return err
	}
	gossip.topics[name] = topic
	go func() {
		for {
			message, err := subscription.Next(context.Background())
			if err != nil {
				return
			}
			gossip.lock.Lock()
			gossip.heard = append(gossip.heard, answer{"from": message.GetFrom().String(), "data": hex.EncodeToString(message.Data)})
			gossip.lock.Unlock()
		}
	}()
	return nil
}

// known is what the peer said of itself; Connect returns after identify.
func known(node host.Host, id peer.ID) (answer, error) {
	store := node.Peerstore()
	agent, err := store.Get(id, "AgentVersion")
	if err != nil {
		return nil, err
	}
	protocols, err := store.GetProtocols(id)
	if err != nil {
		return nil, err
	}
	addresses := []string{}
	for _, a := range store.Addrs(id) {
		addresses = append(addresses, a.String())
	}
	return answer{"peer_id": id.String(), "agent": agent, "protocols": protocols, "listen": addresses, "addresses": addresses}, nil
}
