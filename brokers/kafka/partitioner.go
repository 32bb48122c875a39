package kafka

import "github.com/twmb/franz-go/pkg/kgo"

// explicitPartitioner sends a record where it says, and leaves the others to next; nil is
// the client's own default: the hash of the key that other clients use as well, and for
// records without a key one partition for 64 KiB, rather one with a short queue.
type explicitPartitioner struct{ next kgo.Partitioner }

func (p explicitPartitioner) ForTopic(topic string) kgo.TopicPartitioner {
	next := p.next
	if next == nil {
		next = kgo.UniformBytesPartitioner(64<<10, true, true, nil)
	}
	t := explicitTopic{next.ForTopic(topic)}
	_, sticky := t.TopicPartitioner.(kgo.TopicPartitionerOnNewBatch)
	_, backup := t.TopicPartitioner.(kgo.TopicBackupPartitioner)
	switch {
	case sticky && backup:
		return explicitBackupSticky{explicitBackup{t}}
	case sticky:
		return explicitSticky{t}
	case backup:
		return explicitBackup{t}
	}
	return t
}

type explicitTopic struct{ kgo.TopicPartitioner }

func (p explicitTopic) RequiresConsistency(rec *kgo.Record) bool {
	return rec.Partition >= 0 || p.TopicPartitioner.RequiresConsistency(rec)
}

func (p explicitTopic) Partition(rec *kgo.Record, n int) int {
	if rec.Partition != anyPartition {
		return choice(rec, n)
	}
	return p.TopicPartitioner.Partition(rec, n)
}

// choice is the partition that the record asks for. One that does not exist is marked in
// the record, which the client then fails.
func choice(rec *kgo.Record, n int) int {
	if int(rec.Partition) >= n {
		rec.Partition = noSuchPartition
	}
	return int(rec.Partition)
}

type explicitSticky struct{ explicitTopic }

func (p explicitSticky) OnNewBatch() {
	p.TopicPartitioner.(kgo.TopicPartitionerOnNewBatch).OnNewBatch()
}

type explicitBackup struct{ explicitTopic }

func (p explicitBackup) PartitionByBackup(rec *kgo.Record, n int, backup kgo.TopicBackupIter) int {
	if rec.Partition != anyPartition {
		return choice(rec, n)
	}
	return p.TopicPartitioner.(kgo.TopicBackupPartitioner).PartitionByBackup(rec, n, backup)
}

type explicitBackupSticky struct{ explicitBackup }

func (p explicitBackupSticky) OnNewBatch() {
	p.TopicPartitioner.(kgo.TopicPartitionerOnNewBatch).OnNewBatch()
}
