(function () {
  var box = document.getElementById("q"), said = document.getElementById("found");
  var items = Array.prototype.slice.call(document.querySelectorAll("#entries li"));
  var texts = items.map(function (item) { return item.textContent.toLowerCase(); });
  var parts = Array.prototype.slice.call(document.querySelectorAll("#parts a"));
  function show() {
    var words = box.value.toLowerCase().split(/\s+/).filter(Boolean), count = 0;
    items.forEach(function (item, index) {
      item.hidden = !words.every(function (word) { return texts[index].indexOf(word) >= 0; });
      count += item.hidden ? 0 : 1;
    });
    said.textContent = words.length ? count + " of " + items.length + (parts.length ? " on this page; the other pages are searched by their links" : "") : "";
    parts.forEach(function (part) { part.search = words.length ? "?q=" + encodeURIComponent(box.value) : ""; });
  }
  box.value = new URLSearchParams(window.location.search).get("q") || "";
  box.addEventListener("input", show);
  show();
})();
