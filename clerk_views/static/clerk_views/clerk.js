// Starts Clerk's JavaScript and mounts what {% clerk_component %} wrote, in content that comes later as well.
// Everything to be known stands in the page: options in #clerk-views-options, properties on each element.
// Announces itself by the event "clerk:ready" on the document, and by the promise clerkViews.ready.
"use strict";

(function () {
  if (window.clerkViews) {
    return; // swapped in once more: two calls of Clerk.load() would both run
  }

  var mounted = new Map(); // element -> name of its component

  // Resolves to what a script defines, whether it ran before this one, runs later, or never.
  function global(marker, name) {
    return new Promise(function (resolve, reject) {
      var tag = document.querySelector("script[" + marker + "]");
      function look() {
        if (window[name]) {
          resolve(window[name]);
        } else {
          reject(new Error("Clerk's script was not loaded: " + (tag ? tag.src : marker)));
        }
      }
      if (window[name] || !tag) {
        look();
        return;
      }
      tag.addEventListener("load", look);
      tag.addEventListener("error", look);
      if (document.readyState !== "complete") {
        window.addEventListener("load", look); // the tag's own event may be over
      }
    });
  }

  function mount(element) {
    var name = element.dataset.clerkComponent;
    var fallback = Array.from(element.childNodes);
    mounted.set(element, name);
    try {
      var props = JSON.parse(element.dataset.clerkProps || "{}");
      element.textContent = "";
      window.Clerk["mount" + name](element, props);
    } catch (error) {
      // In development Clerk throws for a component that the instance has not enabled; the page goes on.
      element.append.apply(element, fallback);
      console.warn("Clerk's " + name + " was not mounted:", error);
    }
  }

  function unmount(element) {
    var name = mounted.get(element);
    mounted.delete(element);
    try {
      window.Clerk["unmount" + name](element);
    } catch (error) {
      console.warn("Clerk's " + name + " was not unmounted:", error);
    }
  }

  function update() {
    Array.from(mounted.keys()).forEach(function (element) {
      if (!element.isConnected) {
        unmount(element);
      }
    });
    document.querySelectorAll("[data-clerk-component]").forEach(function (element) {
      if (!mounted.has(element)) {
        mount(element);
      }
    });
  }

  function load(components) {
    var text = document.getElementById("clerk-views-options");
    var options = text ? JSON.parse(text.textContent) : {};
    return global("data-clerk-js-script", "Clerk").then(function (clerk) {
      return clerk.load(Object.assign({}, options, { ui: { ClerkUI: components } })).then(function () {
        if (!clerk.loaded) {
          throw new Error("Clerk's JavaScript did not start; its status is " + clerk.status);
        }
        return clerk;
      });
    });
  }

  var components = global("data-clerk-ui-script", "__internal_ClerkUICtor");
  components.catch(function () {}); // looked at below; Clerk keeps the session fresh without components too
  var ready = load(components);

  window.clerkViews = { ready: ready };

  ready
    .then(function (clerk) {
      return components.then(
        function () {
          update();
          new MutationObserver(update).observe(document, { childList: true, subtree: true });
          return true;
        },
        function (error) {
          console.warn(error.message);
          return false;
        }
      ).then(function (hasComponents) {
        document.dispatchEvent(
          new CustomEvent("clerk:ready", { detail: { clerk: clerk, components: hasComponents } })
        );
      });
    })
    .catch(function (error) {
      console.warn(error.message || error); // what the page shows instead stays
    });
})();
