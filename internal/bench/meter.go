package bench

import "time"

// meter measures a stretch of a child's life: time, its own CPU seconds, and those of the servers.
type meter struct {
	began                 time.Time
	own, database, broker float64
	task                  *task
}

func newMeter(t *task) *meter {
	return &meter{task: t, database: treeCPU(t.DatabaseServer), broker: treeCPU(t.BrokerServer), own: ownCPU(), began: time.Now()}
}

// stop returns what was used, for so many events.
func (m *meter) stop(events int) outcome {
	o := outcome{Events: events, Seconds: time.Since(m.began).Seconds(), CPU: ownCPU() - m.own, DatabaseCPU: -1, BrokerCPU: -1}
	if m.database >= 0 {
		o.DatabaseCPU = treeCPU(m.task.DatabaseServer) - m.database
	}
	if m.broker >= 0 {
		o.BrokerCPU = treeCPU(m.task.BrokerServer) - m.broker
	}
	return o
}
