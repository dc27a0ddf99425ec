// What the user has chosen, kept in the browser, and the sheet where it is chosen. A field left empty is left to the server, which
// knows the model's own presets with and without thinking.

import { byId, el, growToFit } from './dom.js';

const place = 'qian.settings';
const defaults = { theme: 'auto', think: true, model: '', system: '', tools: '', preserve: false };

const numbers = [
    { name: 'temperature', label: 'Temperature', hint: 'higher is freer', min: 0, max: 2, step: 0.05 },
    { name: 'top_p', label: 'Top P', hint: 'share of the likeliest', min: 0, max: 1, step: 0.01 },
    { name: 'top_k', label: 'Top K', hint: 'so many of the likeliest', min: 0, max: 100000, step: 1 },
    { name: 'min_p', label: 'Min P', hint: 'of the likeliest one', min: 0, max: 1, step: 0.01 },
    { name: 'presence_penalty', label: 'Presence penalty', hint: 'against what occurred', min: -2, max: 2, step: 0.1 },
    { name: 'frequency_penalty', label: 'Frequency penalty', hint: 'against what recurs', min: -2, max: 2, step: 0.1 },
    { name: 'repetition_penalty', label: 'Repetition penalty', hint: '1 is none', min: 0.01, max: 100, step: 0.01 },
    { name: 'max_tokens', label: 'Longest reply', hint: 'tokens', min: 1, max: 10000000, step: 1 },
    { name: 'thinking_budget', label: 'Longest thinking', hint: 'tokens', min: 0, max: 10000000, step: 1 },
    { name: 'seed', label: 'Seed', hint: 'same seed, same reply', min: 0, max: Number.MAX_SAFE_INTEGER, step: 1 },
];

export const settings = read();

function read() {
    let found = {};
    try {
        found = JSON.parse(localStorage.getItem(place) || '{}') || {};
    } catch {
        // Nothing readable there: the defaults.
    }
    const clean = { ...defaults };
    for (const [name, value] of Object.entries(defaults)) {
        if (typeof found[name] === typeof value)
            clean[name] = found[name];
    }
    for (const { name, min, max } of numbers)
        clean[name] = typeof found[name] === 'number' && found[name] >= min && found[name] <= max ? found[name] : null;
    clean.stop = Array.isArray(found.stop) ? found.stop.filter(text => typeof text === 'string').slice(0, 16) : [];
    return clean;
}

export function keep() {
    try {
        localStorage.setItem(place, JSON.stringify(settings));
    } catch {
        // They last as long as the page, then.
    }
    if (settings.theme === 'auto')
        delete document.documentElement.dataset.theme;
    else
        document.documentElement.dataset.theme = settings.theme;
}

// The tools, or an error in words.
export function readTools(text) {
    if (!text.trim())
        return { tools: [] };
    try {
        const parsed = JSON.parse(text);
        const tools = (Array.isArray(parsed) ? parsed : [parsed]).map(tool => tool.type === 'function' ? tool : { type: 'function', function: tool });
        const bad = tools.findIndex(tool => typeof tool.function?.name !== 'string');
        return bad < 0 ? { tools } : { tools: [], fault: `Tool ${bad + 1} has no name.` };
    } catch (error) {
        return { tools: [], fault: error.message };
    }
}

// The fields of a request that follow from the settings.
export function requestFields() {
    const fields = { chat_template_kwargs: { enable_thinking: settings.think } };
    if (settings.preserve)
        fields.chat_template_kwargs.preserve_thinking = true;
    for (const { name } of numbers) {
        if (settings[name] !== null && (name !== 'thinking_budget' || settings.think))
            fields[name] = settings[name];
    }
    if (settings.stop.length > 0)
        fields.stop = settings.stop;
    if (settings.model)
        fields.model = settings.model;
    const { tools } = readTools(settings.tools);
    if (tools.length > 0)
        fields.tools = tools;
    return fields;
}

export function buildSheet() {
    byId('settings-body').replaceChildren(
        el('fieldset', { class: 'segments' }, el('legend', null, 'Appearance'),
            el('div', { class: 'segment-row' }, ...['auto', 'light', 'dark'].map(theme => el('label', null,
                el('input', { type: 'radio', name: 'theme', value: theme, checked: settings.theme === theme, onchange: () => change('theme', theme) }),
                el('span', null, theme === 'auto' ? 'As the system' : theme === 'light' ? 'Light' : 'Dark'))))),
        textField('system', 'System prompt', 'Said to the model before every conversation.', 2, false),
        el('fieldset', { class: 'numbers' }, el('legend', null, 'Sampling'),
            el('p', { class: 'hint' }, 'An empty field is left to the model.'), ...numbers.map(numberField)),
        stopField(),
        el('label', { class: 'check' }, el('input', { type: 'checkbox', checked: settings.preserve, onchange: event => change('preserve', event.target.checked) }),
            el('span', null, 'Keep earlier thinking in the prompt')),
        textField('tools', 'Tools', 'A JSON array of function definitions that the model may call; you give the results.', 4, true));
    for (const area of byId('settings-body').querySelectorAll('textarea'))
        growToFit(area);
}

export function reset() {
    const { theme, think, model } = settings;
    Object.assign(settings, defaults, { theme, think, model, stop: [] });
    for (const { name } of numbers)
        settings[name] = null;
    keep();
    buildSheet();
}

function change(name, value) {
    settings[name] = value;
    keep();
}

function numberField({ name, label, hint, min, max, step }) {
    const id = 'set-' + name;
    const input = el('input', {
        id, type: 'number', inputmode: step === 1 ? 'numeric' : 'decimal', min, max, step: 'any', placeholder: 'auto', 'aria-describedby': id + '-hint', value: settings[name], oninput: () => {
            const value = input.value.trim() === '' ? null : Number(input.value);
            const isGood = !input.validity.badInput && (value === null || value >= min && value <= max && (step !== 1 || Number.isInteger(value)));
            input.setAttribute('aria-invalid', String(!isGood));
            if (isGood)
                change(name, value);
        },
    });
    return el('div', { class: 'number' }, el('label', { for: id }, label), el('span', { id: id + '-hint', class: 'hint' }, hint), input);
}

function stopField() {
    const area = el('textarea', {
        id: 'set-stop', rows: 1, spellcheck: 'false', placeholder: 'one a line', oninput: () => {
            growToFit(area);
            change('stop', area.value.split('\n').filter(line => line.length > 0).slice(0, 16));
        },
    }, settings.stop.join('\n'));
    return el('div', { class: 'field' }, el('label', { for: 'set-stop' }, 'Stop at'), area);
}

function textField(name, label, hint, rows, isJson) {
    const id = 'set-' + name;
    const fault = el('p', { class: 'wrong', role: 'alert' });
    const area = el('textarea', {
        id, rows, spellcheck: isJson ? 'false' : 'true', class: isJson ? 'mono' : null, 'aria-describedby': id + '-hint', oninput: () => {
            growToFit(area);
            change(name, area.value);
            if (isJson)
                fault.textContent = readTools(area.value).fault ?? '';
        },
    }, settings[name]);
    return el('div', { class: 'field' }, el('label', { for: id }, label), el('span', { id: id + '-hint', class: 'hint' }, hint), area, fault);
}
