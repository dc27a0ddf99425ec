// Making nodes. Everything on this page is built here, from names and text: there is no way to hand in markup, no handler and
// no address given as a string of foreign origin.

const svgSpace = 'http://www.w3.org/2000/svg';

// el('button', { class: 'quiet', 'aria-label': 'Copy', onclick: copy }, 'Copy'): functions become listeners, false and null are left out.
export function el(tag, attributes, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
        if (typeof value === 'function')
            node.addEventListener(name.slice(2), value);
        else if (value === true)
            node.setAttribute(name, '');
        else if (value !== false && value !== null && value !== undefined)
            node.setAttribute(name, value);
    }
    node.append(...children.filter(child => child !== null && child !== undefined && child !== false));
    return node;
}

export function icon(name) {
    const svg = document.createElementNS(svgSpace, 'svg');
    svg.setAttribute('class', 'icon');
    svg.setAttribute('aria-hidden', 'true');
    const use = document.createElementNS(svgSpace, 'use');
    use.setAttribute('href', '#i-' + name);
    svg.append(use);
    return svg;
}

export function iconButton(name, label, onclick, extra) {
    return el('button', { type: 'button', class: 'quiet', 'aria-label': label, title: label, onclick, ...extra }, icon(name));
}

export const byId = id => document.getElementById(id);

// Says something to those who listen and do not look.
export function announce(text) {
    byId('announcer').textContent = text;
}

let toastTimer = 0;

// A short word at the edge of the screen, with at most one thing to do about it, for which there is time.
export function toast(text, action, onaction) {
    const place = byId('toast');
    place.replaceChildren(text);
    if (action) {
        place.append(el('button', {
            type: 'button', class: 'plain', onclick: () => {
                place.hidden = true;
                onaction();
            },
        }, action));
    }
    place.hidden = false;
    clearTimeout(toastTimer);
    toastTimer = setTimeout(() => place.hidden = true, action ? 20000 : 3500);
}

// The clipboard's own interface exists on https and localhost only; a server in the local network has neither.
export async function copyText(text) {
    if (navigator.clipboard && window.isSecureContext) {
        try {
            await navigator.clipboard.writeText(text);
            return true;
        } catch {
            // Refused: the old way may still work.
        }
    }
    const area = el('textarea', { class: 'unseen', readonly: true, 'aria-hidden': 'true' });
    area.value = text;
    const before = document.activeElement;
    (document.querySelector('dialog[open]') || document.body).append(area);
    area.select();
    const done = document.execCommand('copy');
    area.remove();
    before?.focus();
    return done;
}

// A button that copies what get() gives, and shows that it did.
export function copyButton(label, get, extra) {
    const button = iconButton('copy', label, async () => {
        const done = await copyText(get());
        button.replaceChildren(icon(done ? 'check' : 'close'));
        button.classList.toggle('done', done);
        announce(done ? 'Copied' : 'Copying failed');
        setTimeout(() => {
            button.replaceChildren(icon('copy'));
            button.classList.remove('done');
        }, 1600);
    }, extra);
    return button;
}

export function growToFit(area) {
    area.style.height = 'auto';
    area.style.height = area.scrollHeight + 'px';
}
