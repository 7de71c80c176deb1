// Ask the endpoint and show what it says.
const calls = document.getElementById("calls");
const answer = document.querySelector("#answer code");

// Well-formed, of the right issuer, and signed by nobody.
const encode = (part) => btoa(JSON.stringify(part)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const FORGED = `${encode({ alg: "RS256", kid: "ins_1" })}.${encode({ iss: calls.dataset.issuer, sub: "user_ada" })}.AAAA`;

calls.addEventListener("click", async (event) => {
  const { method, with: extra } = event.target.dataset;
  if (!method) return;
  const headers = { Accept: "application/json" };
  if (extra === "csrf") headers["X-CSRFToken"] = calls.dataset.csrf;
  if (extra === "forged") headers.Authorization = `Bearer ${FORGED}`;
  const options = { method, headers };
  if (method === "POST") {
    headers["Content-Type"] = "application/json";
    options.body = JSON.stringify({ text: "Hello" });
  }
  try {
    const response = await fetch(calls.dataset.url, options);
    const shown = ["WWW-Authenticate", "Retry-After", "Cache-Control", "Vary"]
      .filter((name) => response.headers.has(name))
      .map((name) => `${name}: ${response.headers.get(name)}`);
    const body = JSON.stringify(await response.json(), null, 2);
    answer.textContent = [`${response.status} ${response.statusText}`, ...shown, "", body].join("\n");
  } catch {
    answer.textContent = "No answer. Is the demo still running?";
  }
});
