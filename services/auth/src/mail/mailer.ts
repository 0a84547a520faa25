/** Mail, by SMTP or, in development, onto the terminal. */
import type { Logger } from "@pm/kit/log";
import { createTransport } from "nodemailer";

export type Mail = { to: string; subject: string; text: string };

export type Mailer = {
  /** Whether mail goes anywhere. */
  readonly enabled: boolean;
  /** Hands a mail over and does not wait: how long a mail server takes would tell whether there was a mail to send. Failures are logged. */
  send(mail: Mail): void;
  /** Waits until what was handed over has gone. */
  close(): Promise<void>;
};

/** @param url `smtp://user:password@host:587`, `smtps://…`, `print:`, or undefined for no mail at all */
export function createMailer(options: { url: string | undefined; from: string; log: Logger }): Mailer {
  const { url, from, log } = options;
  const deliver = delivery(url, from);
  const underWay = new Set<Promise<void>>();
  return {
    enabled: deliver !== undefined,
    send(mail) {
      if (!deliver) return;
      const delivered = deliver(mail)
        // Without the error's message: mail servers put addresses into it.
        .catch((error: unknown) => log.error({ code: codeOf(error), subject: mail.subject }, "a mail could not be sent"))
        .finally(() => underWay.delete(delivered));
      underWay.add(delivered);
    },
    close: async () => void (await Promise.all(underWay)),
  };
}

function delivery(url: string | undefined, from: string): ((mail: Mail) => Promise<void>) | undefined {
  if (url === undefined) return undefined;
  if (url === "print:")
    return async ({ to, subject, text }) => {
      // The terminal of a developer, and the only place where a link is ever printed; never the log.
      process.stderr.write(`\n--- mail to ${to}: ${subject}\n${text}\n---\n`);
    };
  const { protocol, hostname, port, username, password } = new URL(url);
  const transport = createTransport({
    host: hostname,
    port: port === "" ? (protocol === "smtps:" ? 465 : 587) : Number(port),
    secure: protocol === "smtps:",
    ...(username !== "" && { auth: { user: decodeURIComponent(username), pass: decodeURIComponent(password) } }),
    connectionTimeout: 10_000,
    socketTimeout: 20_000,
  });
  return async (mail) => void (await transport.sendMail({ from, ...mail }));
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "unknown";
}
