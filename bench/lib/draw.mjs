// Draws a chart of Vega-Lite as a small SVG that follows the light or dark page.
import * as vega from 'vega';
import { compile } from 'vega-lite';

/** Colours for light and dark pages; the SVG follows the page by itself. */
const style = `
<style>
text{font-family:system-ui,sans-serif}
.paper{fill:#fff}text{fill:#1f2328}
.role-axis-grid line{stroke:#d8dee4}.role-axis-tick line,.role-axis-domain line{stroke:#8b949e}
.mark-rule:not([class*=role-axis]) line{stroke:#57606a}
@media (prefers-color-scheme:dark){
.paper{fill:#0d1117}text{fill:#e6edf3}
.role-axis-grid line{stroke:#30363d}
.mark-rule:not([class*=role-axis]) line{stroke:#c9d1d9}
}
</style>`.replaceAll('\n', '');

/** Superfluous parts of Vega's output: empty paths, pointer and screen-reader attributes, and repeated styles. */
const superfluous =
  /<path class="(?:back|fore)ground"[^>]*(?: d=""| d="M0,0h0[^"]*")[^>]*\/>| (?:aria-\w+|role|pointer-events|font-family|xmlns:xlink)="[^"]*"| opacity="1"/g;

/** Draws a chart of Vega-Lite as SVG. */
export async function draw(spec) {
  const view = new vega.View(vega.parse(compile(spec).spec), { renderer: 'none' });
  try {
    return decorate(await view.toSVG());
  } finally {
    view.finalize();
  }
}

function decorate(svg) {
  const [first] = /^<svg [^>]*>/.exec(svg);
  // The first fill is the background. With its own background the text stays legible on any page.
  const rest = svg.slice(first.length).replace(' fill="white"', ' class="paper" rx="6"');
  const shorter = rest.replace(superfluous, '').replace(/ (?:d|transform|x2|y2)="[^"]*"/g, shorten);
  return `${first}${style}${shorter}\n`;
}

/** Rounds coordinates down to a hundredth of a pixel. */
function shorten(attribute) {
  return attribute.replace(/(\.\d{2})\d+/g, '$1');
}
