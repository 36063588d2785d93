package cluster

import (
	"encoding/binary"
	"maps"
	"math"
	"net"
	"slices"
	"strings"
	"time"

	"panoptes/internal/model"
)

// maxMeta is what gossip carries about one member.
const maxMeta = 512

// The fields of a member on the wire: tag, length, bytes. Unknown tags are
// skipped, so that versions may differ.
const (
	tagHost byte = 1 + iota // stands for hostMark in the addresses
	tagName
	tagRegion
	tagRole
	tagVersion
	tagCluster
	tagGossip
	tagPeer
	tagClient
	tagHTTP
	tagLoad // in 1/1000
	tagLag  // in ms
	tagFlags
	tagStarted // in s since 1970
	tagLabel   // key, 0, value
)

const (
	flagBehind   = 1
	flagDraining = 2
	flagServing  = 4
)

// hostMark stands for the member's host: its addresses mostly share it.
const hostMark = "\x00"

// encodeMeta spells what others shall know of m. When that is too long, labels
// are left out first (their record has them too), then the longest texts are
// cut; whole is false then.
func encodeMeta(m model.Member) (b []byte, whole bool) {
	if b = appendMeta(m); len(b) <= maxMeta {
		return b, true
	}
	m.Labels = nil
	if b = appendMeta(m); len(b) <= maxMeta {
		return b, false
	}
	for _, s := range []*string{&m.Version, &m.Addresses.HTTP, &m.Addresses.Client, &m.Addresses.Peer, &m.Region, &m.Name, &m.Addresses.Cluster, &m.Addresses.Gossip} {
		*s = ""
		if b = appendMeta(m); len(b) <= maxMeta {
			break
		}
	}
	return b[:min(len(b), maxMeta)], false
}

func appendMeta(m model.Member) []byte {
	b := make([]byte, 0, maxMeta)
	text := func(tag byte, s string) {
		if s != "" {
			b = putString(append(b, tag), s)
		}
	}
	number := func(tag byte, v uint64) {
		if v != 0 {
			n := binary.AppendUvarint(nil, v)
			b = putString(append(b, tag), string(n))
		}
	}
	host, _, err := net.SplitHostPort(m.Addresses.Cluster)
	if err != nil || len(host) < 3 {
		host = ""
	}
	address := func(tag byte, s string) {
		if host != "" {
			s = strings.Replace(s, host, hostMark, 1)
		}
		text(tag, s)
	}
	text(tagHost, host)
	text(tagName, m.Name)
	text(tagRegion, m.Region)
	text(tagRole, string(m.Role))
	text(tagVersion, m.Version)
	address(tagCluster, m.Addresses.Cluster)
	address(tagGossip, m.Addresses.Gossip)
	address(tagPeer, m.Addresses.Peer)
	address(tagClient, m.Addresses.Client)
	address(tagHTTP, m.Addresses.HTTP)
	if m.Load > 0 { // false for NaN
		number(tagLoad, uint64(math.Round(min(m.Load, 1000)*1000)))
	}
	number(tagLag, uint64(max(0, m.Lag.Milliseconds())))
	var flags uint64
	if m.Behind {
		flags |= flagBehind
	}
	if m.Draining {
		flags |= flagDraining
	}
	if m.Serving {
		flags |= flagServing
	}
	number(tagFlags, flags)
	if !m.Started.IsZero() {
		number(tagStarted, uint64(max(0, m.Started.Unix())))
	}
	for _, k := range slices.Sorted(maps.Keys(m.Labels)) {
		text(tagLabel, k+"\x00"+m.Labels[k])
	}
	return b
}

// decodeMeta reads what encodeMeta wrote. What is damaged is left out: a member
// whose texts cannot be read is still a member.
func decodeMeta(b []byte) (m model.Member, err error) {
	r := reader{b: b}
	var host string
	for r.ok() && len(r.b) > 0 {
		tag := r.byte()
		val := r.bytes(maxMeta)
		if !r.ok() {
			break
		}
		s := strings.ToValidUTF8(string(val), "�")
		address := func() string {
			if host != "" {
				return strings.Replace(s, hostMark, host, 1)
			}
			return s
		}
		number := func() uint64 {
			v, n := binary.Uvarint(val)
			if n <= 0 {
				return 0
			}
			return v
		}
		switch tag {
		case tagHost:
			host = s
		case tagName:
			m.Name = s
		case tagRegion:
			m.Region = s
		case tagRole:
			m.Role = model.NodeRole(s)
		case tagVersion:
			m.Version = s
		case tagCluster:
			m.Addresses.Cluster = address()
		case tagGossip:
			m.Addresses.Gossip = address()
		case tagPeer:
			m.Addresses.Peer = address()
		case tagClient:
			m.Addresses.Client = address()
		case tagHTTP:
			m.Addresses.HTTP = address()
		case tagLoad:
			m.Load = float64(min(number(), 1000_000)) / 1000
		case tagLag:
			m.Lag = time.Duration(min(number(), math.MaxInt64/uint64(time.Millisecond))) * time.Millisecond
		case tagFlags:
			f := number()
			m.Behind, m.Draining, m.Serving = f&flagBehind != 0, f&flagDraining != 0, f&flagServing != 0
		case tagStarted:
			m.Started = time.Unix(int64(min(number(), 1<<40)), 0).UTC()
		case tagLabel:
			if k, v, ok := strings.Cut(s, "\x00"); ok && k != "" {
				if m.Labels == nil {
					m.Labels = map[string]string{}
				}
				m.Labels[k] = v
			}
		}
	}
	if !r.ok() {
		return m, errDamaged
	}
	return m, nil
}
