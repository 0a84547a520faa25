// Refreshes the page: fetches it again and replaces what changed. Without this script, the page is complete but stays as it is.
const pollMs = 2_000;
const live = document.getElementById("live");
const status = document.getElementById("status");
let tag = live?.dataset.tag;

async function refresh() {
  if (document.hidden || !live) return;
  try {
    const response = await fetch(location.href, { headers: tag ? { "if-none-match": tag } : {}, cache: "no-store", redirect: "manual" });
    if (response.type === "opaqueredirect") {
      location.reload();
      return;
    }
    if (response.status === 200) {
      const next = new DOMParser().parseFromString(await response.text(), "text/html").getElementById("live");
      if (next) {
        // Tables that are open stay open.
        const open = new Set([...live.querySelectorAll("details[open]")].map((details) => details.id));
        live.replaceChildren(...next.childNodes);
        for (const details of live.querySelectorAll("details")) details.open = open.has(details.id);
        tag = response.headers.get("etag") ?? undefined;
      }
    }
    if (status) status.textContent = response.ok || response.status === 304 ? "" : "The numbers cannot be refreshed right now.";
  } catch {
    if (status) status.textContent = "The numbers cannot be refreshed right now.";
  }
}

setInterval(refresh, pollMs);
document.addEventListener("visibilitychange", refresh);
