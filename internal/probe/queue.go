package probe

import "container/heap"

// queue holds the entries by the time of their next run.
type queue struct{ h entryHeap }

func (q *queue) add(e *entry) { heap.Push(&q.h, e) }

func (q *queue) remove(e *entry) {
	if e.index >= 0 && e.index < len(q.h) && q.h[e.index] == e {
		heap.Remove(&q.h, e.index)
	}
}

func (q *queue) fix(e *entry) { heap.Fix(&q.h, e.index) }

func (q *queue) first() *entry {
	if len(q.h) == 0 {
		return nil
	}
	return q.h[0]
}

type entryHeap []*entry

func (h entryHeap) Len() int           { return len(h) }
func (h entryHeap) Less(i, j int) bool { return h[i].next.Before(h[j].next) }
func (h entryHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *entryHeap) Push(x any) {
	e := x.(*entry)
	e.index = len(*h)
	*h = append(*h, e)
}

func (h *entryHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	e.index = -1
	return e
}
