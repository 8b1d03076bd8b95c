// Keeps the number of waiting requests fresh. Everything works without it.
(() => {
  const badge = document.querySelector("[data-pending]");
  const list = document.querySelector("[data-state]");
  if (!badge) return;
  const title = document.title.replace(/^\(\d+\) /, "");

  function show(pending) {
    badge.dataset.pending = pending;
    badge.querySelector(".count").textContent = pending;
    badge.hidden = pending === 0;
    document.title = (pending ? `(${pending}) ` : "") + title;
  }

  async function look() {
    const answer = await fetch("/inbox/count", { headers: { Accept: "application/json" }, redirect: "error" });
    if (answer.status === 401) return location.reload(); // signed out: say so
    if (!answer.ok) return;
    const { pending, state } = await answer.json();
    show(pending);
    if (list && list.dataset.state !== state) location.reload();
  }

  // A server that is away for a while is looked for again.
  setInterval(() => document.hidden || look().catch(() => {}), 3000);
  document.addEventListener("visibilitychange", () => document.hidden || look().catch(() => {}));
})();
