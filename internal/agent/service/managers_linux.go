package service

import "panoptes/internal/model"

// managers are those of this system.
func managers(sockets []string) map[string]Manager {
	out := map[string]Manager{
		model.ServiceUnit: newUnits(), model.ServiceProcess: newProcesses("/proc"), model.ServicePort: &ports{},
	}
	if len(sockets) > 0 {
		out[model.ServiceContainer] = newContainers(sockets)
	}
	return out
}
