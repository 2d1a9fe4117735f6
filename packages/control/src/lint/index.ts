// What can be done with objects without running a control plane.
export { type LintResult, lint } from './lint.ts';
export { type Rendered, type RenderedResource, type RenderResult, render } from './render.ts';
