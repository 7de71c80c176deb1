// With Clerk itself: keep the session cookie fresh, sign in, sign out. Clerk's own script was loaded before this one.
const script = document.currentScript;

// Only within this site, wherever the address came from.
function wayBack() {
  const asked = new URLSearchParams(location.search).get("redirect_url") || script.dataset.home;
  const target = new URL(asked, location.origin);
  return target.origin === location.origin ? target.href : script.dataset.home;
}

(async () => {
  await Clerk.load({ telemetry: false });
  for (const button of document.querySelectorAll("[data-sign-out]")) {
    button.addEventListener("click", () => Clerk.signOut({ redirectUrl: script.dataset.home }));
  }
  if (document.getElementById("clerk-sign-in")) {
    if (Clerk.session) {
      await Clerk.session.getToken(); // the cookie is fresh when this returns
      location.replace(wayBack());
    } else {
      await Clerk.redirectToSignIn(); // and back to this page
    }
  } else if (Clerk.session && script.dataset.signedIn === "no" && !sessionStorage.getItem("reloaded")) {
    // The cookie had expired while the page was asleep; it is renewed by now.
    sessionStorage.setItem("reloaded", "once");
    location.reload();
  } else if (script.dataset.signedIn === "yes") {
    sessionStorage.removeItem("reloaded");
  }
})().catch(() => {
  const status = document.querySelector("#clerk-sign-in [role=status]");
  if (status) status.textContent = "Clerk could not be reached. Please load this page again.";
});
