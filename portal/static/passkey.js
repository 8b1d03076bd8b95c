// Has the browser make or use a passkey for a form. Everything else works without it.
(() => {
  const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");
  const ids = (list) => (list || []).map((c) => ({ ...c, id: bytes(c.id) }));

  function prepared(options) {
    options.challenge = bytes(options.challenge);
    if (options.user) options.user.id = bytes(options.user.id);
    if (options.excludeCredentials) options.excludeCredentials = ids(options.excludeCredentials);
    if (options.allowCredentials) options.allowCredentials = ids(options.allowCredentials);
    return { publicKey: options };
  }

  // answered is the credential in the form of the specification (RegistrationResponseJSON,
  // AuthenticationResponseJSON).
  function answered(made) {
    const response = { clientDataJSON: text(made.response.clientDataJSON) };
    for (const part of ["attestationObject", "authenticatorData", "signature", "userHandle"]) {
      if (made.response[part]) response[part] = text(made.response[part]);
    }
    if (made.response.getTransports) response.transports = made.response.getTransports();
    return JSON.stringify({ id: made.id, rawId: text(made.rawId), type: made.type, response, clientExtensionResults: {} });
  }

  async function use(form) {
    const fault = form.querySelector("[data-passkey-fault]");
    fault.hidden = true;
    const code = form.elements.code;
    if (form.dataset.passkey === "get" && code) code.required = false; // the passkey is in its place
    if (!form.reportValidity()) return;
    try {
      const made = await navigator.credentials[form.dataset.passkey](prepared(JSON.parse(form.dataset.options)));
      form.elements.passkey.value = answered(made);
    } catch (e) {
      if (code) code.required = true;
      fault.textContent = `The browser did not do it: ${e.message}`;
      fault.hidden = false;
      return;
    }
    form.requestSubmit();
  }

  for (const form of document.querySelectorAll("form[data-passkey]")) {
    if (!window.PublicKeyCredential || location.hostname !== form.dataset.rp) continue;
    for (const button of form.querySelectorAll("[data-use-passkey]")) {
      button.hidden = false;
      button.addEventListener("click", () => use(form));
    }
  }
})();
