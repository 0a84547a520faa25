/** Sends mail by SMTP, or writes it to the terminal in development. */
import type { Logger } from "@pm/kit/log";
import { createTransport } from "nodemailer";

type Mail = { to: string; subject: string; text: string };

export type Mailer = {
  /** Whether mail is set up. */
  readonly enabled: boolean;
  /**
   * Starts to send a mail and does not wait: the time that a mail server takes would tell whether there was a mail to
   * send. Errors are logged.
   */
  send(mail: Mail): void;
  /** Waits until all mails have been sent. */
  close(): Promise<void>;
};

/** @param url `smtp://user:password@host:587`, `smtps://…`, `print:`, or undefined if no mail is set up */
export function createMailer(options: { url: string | undefined; from: string; log: Logger }): Mailer {
  const { url, from, log } = options;
  const deliver = delivery(url, from);
  const underWay = new Set<Promise<void>>();
  return {
    enabled: deliver !== undefined,
    send(mail) {
      if (!deliver) return;
      const delivered = deliver(mail)
        // The error's message is not logged, because mail servers put addresses into it.
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
      // Links are printed for developers only, and never logged.
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
