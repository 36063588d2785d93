package cluster

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"panoptes/internal/model"
)

// The reasons of panoptes_cluster_messages_dropped_total.
const (
	dropDamaged  = "damaged"
	dropStranger = "stranger"
	dropTooLarge = "too_large"
	dropQueue    = "queue_full"
	dropUnknown  = "unknown"
	dropRefused  = "refused"
)

type metrics struct {
	changes    *prometheus.CounterVec
	news       *prometheus.CounterVec
	dropped    *prometheus.CounterVec
	failed     *prometheus.CounterVec
	exchanges  prometheus.Counter
	conflicts  prometheus.Counter
	complaints prometheus.Counter
	refused    prometheus.Counter
	stalls     prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, c *Cluster) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "panoptes_cluster_" + name, Help: help})
	}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "panoptes_cluster_" + name, Help: help}, labels)
	}
	m := &metrics{
		changes:    vec("member_changes_total", "Changes of members' states, by the new state.", "state"),
		news:       vec("news_total", "News and whole states of shared parts.", "part", "what"),
		dropped:    vec("messages_dropped_total", "Messages among members that were not taken in, by reason.", "reason"),
		failed:     vec("sends_failed_total", "Messages that could not be sent and attempts to join that failed.", "what"),
		exchanges:  counter("exchanges_total", "Whole states of other members that were merged."),
		conflicts:  counter("id_conflicts_total", "Announcements of an ID from two addresses."),
		complaints: counter("library_complaints_total", "Warnings and errors of the gossip library."),
		refused:    counter("streams_refused_total", "Connections refused because there were too many."),
		stalls:     counter("stalls_total", "Times this process stood still for so long that others may have suspected it."),
	}
	if reg != nil {
		reg.MustRegister(m.changes, m.news, m.dropped, m.failed, m.exchanges, m.conflicts, m.complaints, m.refused, m.stalls, &view{c})
	}
	return m
}

// view makes metrics of what is known when they are read.
type view struct{ c *Cluster }

var (
	descMembers  = prometheus.NewDesc("panoptes_cluster_members", "Servers known, by state; this one included.", []string{"state"}, nil)
	descIsolated = prometheus.NewDesc("panoptes_cluster_isolated", "1 while no other server answers though there should be one.", nil, nil)
	descSkew     = prometheus.NewDesc("panoptes_cluster_clock_skew_seconds", "How far another server's clock is ahead of this one's.", []string{"node"}, nil)
	descRTT      = prometheus.NewDesc("panoptes_cluster_round_trip_seconds", "Shortest of the last round trips to another server.", []string{"node"}, nil)
)

// Describe implements prometheus.Collector.
func (v *view) Describe(ch chan<- *prometheus.Desc) {
	ch <- descMembers
	ch <- descIsolated
	ch <- descSkew
	ch <- descRTT
}

// Collect implements prometheus.Collector.
func (v *view) Collect(ch chan<- prometheus.Metric) {
	c := v.c
	c.mu.Lock()
	defer c.mu.Unlock()
	count := map[model.MemberState]int{model.MemberAlive: 1}
	for id, p := range c.book.peers {
		count[p.m.State]++
		if ahead, rtt, ok := p.clock.best(); ok && (p.m.State == model.MemberAlive || p.m.State == model.MemberSuspect) {
			ch <- prometheus.MustNewConstMetric(descSkew, prometheus.GaugeValue, ahead.Seconds(), id)
			ch <- prometheus.MustNewConstMetric(descRTT, prometheus.GaugeValue, rtt.Seconds(), id)
		}
	}
	for _, s := range []model.MemberState{model.MemberAlive, model.MemberSuspect, model.MemberDead, model.MemberLeft} {
		ch <- prometheus.MustNewConstMetric(descMembers, prometheus.GaugeValue, float64(count[s]), string(s))
	}
	var isolated float64
	if c.isolated(time.Now()) {
		isolated = 1
	}
	ch <- prometheus.MustNewConstMetric(descIsolated, prometheus.GaugeValue, isolated)
}
