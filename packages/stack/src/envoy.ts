/** One Envoy on this machine. */
export type Envoy = {
  /** `http://127.0.0.1:<port>` */
  url: string;
  adminUrl: string;
  stop(): Promise<void>;
  pids(): number[];
};
