// Shows the OpenAPI description of this server, and sends requests. Text reaches the page as text only, never as HTML.

const byId = (id) => document.getElementById(id);

/** An element with attributes and children. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== undefined));
  return made;
}

const typeName = (reference) => reference.split('/').pop();

/** A type in one line; named types are links. */
function type(schema, depth = 0) {
  if (schema === true || schema === undefined) return ['anything'];
  if (schema.$ref) {
    const name = typeName(schema.$ref);
    return [element('a', { href: `#type-${name}` }, name)];
  }
  if (schema.const !== undefined) return [JSON.stringify(schema.const)];
  if (schema.enum) return [schema.enum.map((value) => JSON.stringify(value)).join(' | ')];
  const choices = schema.oneOf ?? schema.anyOf;
  if (choices && depth < 4) return choices.flatMap((choice, index) => [index ? ' | ' : '', ...type(choice, depth + 1)]);
  if (schema.prefixItems && depth < 4)
    return ['[', ...schema.prefixItems.flatMap((item, index) => [index ? ', ' : '', ...type(item, depth + 1)]), ']'];
  if (schema.items !== undefined && depth < 4) return [...type(schema.items, depth + 1), '[]'];
  return [[schema.type ?? 'object'].flat().join(' | ')];
}

/** The limits of a schema, for people. */
function limits(schema) {
  const known = { minimum: '≥', maximum: '≤', minLength: 'length ≥', maxLength: 'length ≤', minItems: 'items ≥', maxItems: 'items ≤', pattern: 'matches', default: 'default' };
  return Object.entries(known)
    .filter(([key]) => schema?.[key] !== undefined)
    .map(([key, text]) => `${text} ${JSON.stringify(schema[key])}`)
    .join(', ');
}

/** The properties of an object, or the variants of a type. */
function shape(schema) {
  const variants = schema.oneOf ?? schema.anyOf;
  if (variants && variants.some((variant) => variant.properties)) return element('div', {}, ...variants.map(shape));
  if (!schema.properties) return element('p', {}, ...type(schema), ' ', limits(schema));
  const rows = Object.entries(schema.properties).flatMap(([name, property]) => {
    const optional = schema.required?.includes(name) ? '' : '?';
    return [
      element('dt', {}, element('code', {}, name + optional), ': ', ...type(property)),
      element('dd', {}, [property.description, limits(property)].filter(Boolean).join(' — ')),
    ];
  });
  return element('div', {}, schema.description ?? '', element('dl', {}, ...rows));
}

/** A value of a type, to begin with. */
function example(schema, api, depth = 0) {
  if (!schema || schema === true || depth > 5) return null;
  if (schema.$ref) return example(api.components.schemas[typeName(schema.$ref)], api, depth + 1);
  if (schema.const !== undefined) return schema.const;
  if (schema.default !== undefined) return schema.default;
  if (schema.examples) return schema.examples[0];
  if (schema.enum) return schema.enum[0];
  const choices = schema.oneOf ?? schema.anyOf;
  if (choices) return example(choices[0], api, depth + 1);
  if (schema.properties) {
    const required = Object.entries(schema.properties).filter(([name]) => schema.required?.includes(name));
    return Object.fromEntries(required.map(([name, property]) => [name, example(property, api, depth + 1)]));
  }
  const kind = [schema.type].flat()[0];
  if (kind === 'array') return schema.minItems ? [example(schema.items, api, depth + 1)] : [];
  return { string: '', integer: schema.minimum ?? 0, number: 0, boolean: false, object: {} }[kind] ?? null;
}

/** The field of a parameter. */
function field(parameter) {
  const { schema, name } = parameter;
  const required = parameter.required ? { required: '' } : {};
  const values = schema.enum ?? ([schema.type].flat().includes('boolean') ? ['true', 'false'] : undefined);
  const input = values
    ? element('select', { name, ...required }, element('option', { value: '' }, ''), ...values.map((value) => element('option', {}, value)))
    : element('input', { name, autocomplete: 'off', spellcheck: 'false', ...required });
  const about = [parameter.in, parameter.required ? 'required' : '', limits(schema)].filter(Boolean).join(', ');
  return element('label', { class: 'field' }, element('code', {}, name), ` (${about}) `, element('span', { class: 'quiet' }, parameter.description ?? ''), input);
}

/** The request of a filled form. */
async function request(route, form) {
  const { path, method, operation } = route;
  const query = new URLSearchParams();
  const headers = {};
  const token = byId('token').value.trim();
  if (token) headers.Authorization = `Bearer ${token}`;
  let url = path;
  for (const parameter of operation.parameters ?? []) {
    const value = form.elements[parameter.name].value;
    if (value === '') continue;
    if (parameter.in === 'path') url = url.replace(`{${parameter.name}}`, encodeURIComponent(value));
    else if (parameter.in === 'query') query.set(parameter.name, value);
    else headers[parameter.name] = value;
  }
  if (query.size) url += `?${query}`;
  let body;
  const content = operation.requestBody?.content;
  if (content?.['application/json']) {
    headers['Content-Type'] = 'application/json';
    body = form.elements['request body'].value;
  } else if (content) {
    headers['Content-Type'] = 'application/octet-stream';
    body = form.elements['request body'].files[0] ?? new Uint8Array();
  }
  return fetch(url, { method: method.toUpperCase(), headers, body, credentials: 'omit', referrerPolicy: 'no-referrer' });
}

/** The text of an answer; of a stream, what arrives in the first seconds. */
async function text(response) {
  const kind = response.headers.get('content-type') ?? '';
  if (kind.startsWith('text/event-stream')) {
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    let read = '';
    const end = setTimeout(() => reader.cancel(), 5000);
    for (let part = await reader.read(); !part.done; part = await reader.read()) read += decoder.decode(part.value, { stream: true });
    clearTimeout(end);
    return `${read}\n(the page reads the stream for 5 seconds)`;
  }
  if (kind.startsWith('application/json')) {
    const raw = await response.text();
    try {
      return JSON.stringify(JSON.parse(raw), null, 2);
    } catch {
      return raw;
    }
  }
  if (kind.startsWith('text/') || kind.startsWith('application/jsonl')) return response.text();
  const bytes = await response.blob();
  return bytes.size ? `${bytes.size} bytes of ${kind}` : '(no body)';
}

async function send(route, form, answer) {
  const shown = element('pre', { tabindex: '0', 'aria-label': 'Answer' });
  answer.replaceChildren('Sending …');
  try {
    const response = await request(route, form);
    const headers = [...response.headers].map(([name, value]) => `${name}: ${value}`).join('\n');
    shown.textContent = `${response.status} ${response.statusText}\n${headers}\n\n${await text(response)}`;
  } catch (error) {
    shown.textContent = `The request failed: ${error.message}`;
  }
  answer.replaceChildren(element('h4', {}, 'Answer'), shown);
}

const resolved = (api, value) => (value.$ref ? value.$ref.split('/').slice(1).reduce((at, name) => at[name], api) : value);

/** What is inside an opened operation. */
function details(route, api) {
  const { operation } = route;
  const parts = [element('p', { class: 'quiet' }, element('code', {}, operation.operationId))];
  if (operation.description) parts.push(element('p', {}, operation.description));
  const form = element('form', {}, ...(operation.parameters ?? []).map(field));
  const content = operation.requestBody?.content;
  const schema = content?.['application/json']?.schema;
  if (schema) {
    const area = element('textarea', { name: 'request body', rows: '8', spellcheck: 'false' });
    area.value = JSON.stringify(example(schema, api), null, 2);
    form.append(element('label', { class: 'field' }, 'Body: ', ...type(schema), area));
  } else if (content) {
    form.append(element('label', { class: 'field' }, `Body, as bytes. ${operation.requestBody.description ?? ''}`, element('input', { type: 'file', name: 'request body' })));
  }
  form.append(element('button', {}, 'Send'));
  const answer = element('div', { role: 'status' });
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    send(route, form, answer);
  });
  parts.push(form, answer, element('h4', {}, 'Answers'));
  const rows = Object.entries(operation.responses).flatMap(([status, described]) => {
    const response = resolved(api, described);
    const kinds = Object.entries(response.content ?? {}).flatMap(([kind, { schema: of }], index) => [index ? ', ' : ' ', kind, ...(of ? [' ', ...type(of)] : [])]);
    return [element('dt', {}, status, ...kinds), element('dd', {}, response.description)];
  });
  parts.push(element('dl', {}, ...rows));
  return element('div', {}, ...parts);
}

/** A part of the page that is made when it is opened. */
function folded(id, title, make) {
  const made = element('details', { id }, element('summary', {}, ...title));
  made.addEventListener('toggle', () => {
    if (made.open && made.children.length === 1) made.append(make());
  });
  return made;
}

function show(api) {
  byId('about').textContent = api.info.description;
  const groups = new Map();
  const shown = [];
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const route = { path, method, operation };
      const title = [element('span', { class: 'method' }, method.toUpperCase()), element('span', { class: 'route' }, path), ` ${operation.summary}`];
      const entry = folded(operation.operationId, title, () => details(route, api));
      const tag = operation.tags[0];
      if (!groups.has(tag)) groups.set(tag, element('section', {}, element('h3', {}, tag)));
      groups.get(tag).append(entry);
      shown.push({ entry, words: `${method} ${path} ${operation.summary} ${operation.operationId} ${tag}`.toLowerCase() });
    }
  }
  byId('operations').replaceChildren(...groups.values());
  const types = Object.entries(api.components.schemas);
  byId('types').replaceChildren(...types.map(([name, schema]) => folded(`type-${name}`, [name], () => shape(schema))));
  const find = () => {
    const words = byId('find').value.toLowerCase().split(/\s+/);
    for (const { entry, words: own } of shown) entry.hidden = !words.every((word) => own.includes(word));
    for (const group of groups.values()) group.hidden = ![...group.querySelectorAll('details')].some((entry) => !entry.hidden);
    byId('found').textContent = `${shown.filter(({ entry }) => !entry.hidden).length} of ${shown.length} operations`;
  };
  byId('find').addEventListener('input', find);
  find();
  const open = () => {
    const target = byId(decodeURIComponent(location.hash.slice(1)));
    if (target?.tagName === 'DETAILS') {
      target.open = true;
      target.scrollIntoView();
    }
  };
  addEventListener('hashchange', open);
  open();
}

async function signIn(event) {
  event.preventDefault();
  const form = event.target;
  const status = byId('signed-in');
  const body = JSON.stringify({
    type: 'm.login.password',
    identifier: { type: 'm.id.user', user: form.elements.user.value },
    password: form.elements.password.value,
    initial_device_display_name: 'API page',
  });
  try {
    const response = await fetch('/_matrix/client/v3/login', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body, credentials: 'omit' });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
    byId('token').value = answer.access_token;
    form.elements.password.value = '';
    status.textContent = `Signed in as ${answer.user_id}.`;
  } catch (error) {
    status.textContent = `Not signed in: ${error.message}`;
  }
}

byId('sign-in').addEventListener('submit', signIn);
try {
  const response = await fetch('/_weft/openapi.json', { credentials: 'omit' });
  show(await response.json());
} catch (error) {
  byId('found').textContent = `The description could not be read: ${error.message}`;
}
