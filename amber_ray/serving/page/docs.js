// The interactive page over openapi.json: Swagger UI, which shares its API token with the page at `/`.

const TOKEN = "amber-token"; // as in api.js: in the tab's session storage, and nowhere else

const shareToken = () => ({
  statePlugins: {
    auth: {
      wrapActions: {
        authorize: (go) => (given) => {
          if (given.token?.value) sessionStorage.setItem(TOKEN, given.token.value);
          return go(given);
        },
        logout: (go) => (names) => {
          sessionStorage.removeItem(TOKEN);
          return go(names);
        },
      },
    },
  },
});

const ui = SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#calls",
  deepLinking: true,
  displayRequestDuration: true,
  validatorUrl: null, // by default the description is sent to a validator on another host
  plugins: [shareToken],
  onComplete() {
    const token = sessionStorage.getItem(TOKEN);
    if (token) ui.preauthorizeApiKey("token", token);
  },
});
