// What the pages do besides htmx's polling. No inline script is needed, none is allowed.
"use strict";

(() => {
  const offline = document.getElementById("offline");
  const SAYS = {
    nothing: "The dashboard does not answer.",
    503: "The database or Redis does not answer.",
    other: "The dashboard can not show this page: reload it to see why.",
  };
  const chosen = () => document.querySelector('.letters input[name="id[]"]:checked');

  // Plots draw themselves, and what somebody is choosing stays as it is.
  Idiomorph.defaults.callbacks.beforeNodeMorphed = (old) => !(old.dataset && "keep" in old.dataset);

  document.addEventListener("htmx:beforeRequest", (event) => {
    if (document.hidden || chosen()) event.preventDefault();
  });
  document.addEventListener("htmx:afterRequest", (event) => {
    const answered = event.detail.successful, status = event.detail.xhr.status;
    if (!answered) offline.querySelector("b").textContent = status ? SAYS[status] || SAYS.other : SAYS.nothing;
    if (offline.hidden === answered) return;
    if (!answered) offline.querySelector("span").textContent = new Date().toLocaleTimeString();
    offline.hidden = answered;
  });

  document.addEventListener("change", (event) => {
    if (event.target.id !== "choose-all") return;
    for (const box of document.querySelectorAll('.letters input[name="id[]"]')) box.checked = event.target.checked;
  });

  document.addEventListener("submit", (event) => {
    const question = event.submitter?.dataset.confirm;
    if (question && !confirm(question)) event.preventDefault();
  });

  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
    if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const search = document.getElementById("q");
    if (!search) return;
    event.preventDefault();
    search.focus();
    search.select();
  });

  // The sentence about what was done is for once.
  const address = new URL(location.href);
  if (address.searchParams.has("notice")) {
    address.searchParams.delete("notice");
    history.replaceState(null, "", address);
  }
})();
