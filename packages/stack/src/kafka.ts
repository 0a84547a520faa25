/** One Kafka broker (KRaft) on this machine, or a cluster that runs elsewhere (`KAFKA_BROKERS`). */
export type Kafka = {
  /** `host:port` of each. */
  brokers: string[];
  /** Topics that exist are left as they are. One replica; partitions: 3 where not said. */
  createTopics(topics: { topic: string; partitions?: number; config?: Record<string, string> }[]): Promise<void>;
  stop(): Promise<void>;
  /** SIGKILL; the data stays. */
  kill(): Promise<void>;
  /** Starts it again, on the same port, after `stop` or `kill`; returns when it serves. */
  start(): Promise<void>;
  pause(): Promise<void>;
  resume(): Promise<void>;
  pids(): number[];
};
