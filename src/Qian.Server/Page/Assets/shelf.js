// The list of past conversations, by day, and the drawer that it becomes on a narrow screen.

import { byId, el } from './dom.js';

const narrow = matchMedia('(max-width: 56rem)');

export class Shelf {
    constructor(onopen) {
        this.onopen = onopen;
        this.entries = [];
        this.drawn = '';
        byId('shelf-open').addEventListener('click', () => this.toggle(true));
        byId('shelf-close').addEventListener('click', () => this.toggle(false));
        byId('scrim').addEventListener('click', () => this.toggle(false));
        byId('shelf-filter').addEventListener('input', () => this.#draw());
        narrow.addEventListener('change', () => this.#settle());
        this.isOpen = !narrow.matches && document.documentElement.dataset.shelf !== 'closed';
        this.#settle();
    }

    show(entries, currentId, runningIds) {
        this.entries = entries;
        this.currentId = currentId;
        this.runningIds = runningIds;
        byId('shelf-filter').hidden = entries.length < 8;
        this.#draw();
    }

    toggle(isOpen) {
        this.isOpen = isOpen;
        if (!narrow.matches) {
            try {
                localStorage.setItem('qian.shelf', isOpen ? 'open' : 'closed');
            } catch {
                // It opens as the page is wide, next time.
            }
        }
        this.#settle();
        byId(isOpen ? (narrow.matches ? 'new-chat' : 'shelf-close') : 'shelf-open').focus();
    }

    // After a choice on a narrow screen the drawer has done its work.
    leave() {
        if (narrow.matches && this.isOpen) {
            this.isOpen = false;
            this.#settle();
        }
    }

    get isDrawerOpen() {
        return narrow.matches && this.isOpen;
    }

    #settle() {
        const root = document.documentElement;
        if (narrow.matches && !root.classList.contains('narrow'))
            this.isOpen = false;
        root.classList.toggle('narrow', narrow.matches);
        root.dataset.shelf = this.isOpen ? 'open' : 'closed';
        byId('shelf').inert = !this.isOpen;
        byId('stage').inert = narrow.matches && this.isOpen;
        byId('scrim').hidden = !(narrow.matches && this.isOpen);
        byId('shelf-open').setAttribute('aria-expanded', String(this.isOpen));
    }

    #draw() {
        const wanted = byId('shelf-filter').value.trim().toLowerCase();
        // A list that stays as it is keeps its nodes: a click that has begun, or the focus, would be lost with them.
        const drawing = JSON.stringify([wanted, this.entries.map(({ id, title, updated }) => [id, title, dayOf(updated), id === this.currentId, this.runningIds.has(id)])]);
        if (drawing === this.drawn)
            return;
        this.drawn = drawing;
        const groups = new Map();
        for (const entry of this.entries) {
            if (wanted && !entry.title.toLowerCase().includes(wanted))
                continue;
            const day = dayOf(entry.updated);
            if (!groups.has(day))
                groups.set(day, []);
            groups.get(day).push(entry);
        }
        const list = byId('shelf-list');
        list.replaceChildren(...[...groups].flatMap(([day, entries]) => [
            el('h2', null, day),
            el('ul', null, ...entries.map(entry => el('li', null, el('button', {
                type: 'button', title: entry.title, 'aria-current': entry.id === this.currentId ? 'true' : null,
                class: this.runningIds.has(entry.id) ? 'running' : null, onclick: () => this.onopen(entry.id),
            }, entry.title || 'Untitled')))),
        ]));
        if (groups.size === 0)
            list.append(el('p', { class: 'shelf-none' }, wanted ? 'Nothing of that name.' : 'Conversations will be listed here.'));
    }
}

function dayOf(time) {
    const midnight = new Date();
    midnight.setHours(0, 0, 0, 0);
    const days = Math.ceil((midnight - time) / 86_400_000);
    return days <= 0 ? 'Today' : days === 1 ? 'Yesterday' : days < 7 ? 'This week' : days < 31 ? 'This month' : new Date(time).toLocaleDateString('en', { month: 'long', year: 'numeric' });
}
