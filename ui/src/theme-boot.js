// Sets theme and language before the first paint, so that nothing flashes.
(function () {
  let mode = "auto";
  let lang = "";
  try {
    mode = localStorage.getItem("panoptes.theme") || "auto";
    lang = localStorage.getItem("panoptes.language") || "";
  } catch {
    // Without storage the system's choice holds.
  }
  const dark = mode === "dark" || (mode !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.setAttribute("data-mantine-color-scheme", dark ? "dark" : "light");
  if (lang) document.documentElement.lang = lang;
})();
