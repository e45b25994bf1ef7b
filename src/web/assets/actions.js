// Action buttons: trigger, cancel, pause, resume, retry.

import { needToken, post } from './api.js';
import { live, refresh } from './live.js';
import { h, say, toast } from './ui.js';

/** Why actions are not available, or null. */
export function whyNot() {
  return live.status?.token === 'not_configured' ? 'Read-only: without web.token_file in the configuration, nothing can be changed over TCP.' : null;
}

/** The sentence of whyNot as an element, or null. */
export function whyNotNote() {
  const why = whyNot();
  return why ? h('p.faint.small', {}, why) : null;
}

/** A button that posts to `path` and shows the result as `message(answer)`. */
export function button(label, path, { body = {}, message, kind = '', after = () => {} } = {}) {
  const why = whyNot();
  const press = async () => {
    element.disabled = true;
    try {
      if (live.status?.token === 'needed') await needToken();
      const answer = await post(path, typeof body === 'function' ? body() : body);
      const text = message(answer);
      toast(text, 'good');
      say(text);
      await refresh();
      after(answer);
    } catch (error) {
      toast(`${label}: ${error.message}`, 'error');
    } finally {
      element.disabled = false;
    }
  };
  const element = h(`button${kind ? `.${kind}` : ''}`, { type: 'button', onclick: press, disabled: Boolean(why), title: why }, label);
  return element;
}

const job = (name) => `jobs/${encodeURIComponent(name)}`;

export function triggerButton(name, body) {
  return button('Trigger', `${job(name)}/trigger`, { body, kind: 'main', message: ({ run }) => `${name}: run ${run.id} is ${run.state}` });
}

export function pauseButton(name, paused) {
  return paused
    ? button('Resume', `${job(name)}/resume`, { message: () => `${name} is resumed` })
    : button('Pause', `${job(name)}/pause`, { message: () => `${name} is paused` });
}

export function cancelButton(id, label = 'Cancel') {
  return button(label, `runs/${id}/cancel`, { kind: 'danger', message: ({ run }) => `run ${run.id} of ${run.job} ${run.ended_at ? `is ${run.state}` : 'is being cancelled'}` });
}

export function retryButton(id, body, after) {
  return button('Retry', `runs/${id}/retry`, { body, kind: 'main', after, message: ({ run }) => `${run.job}: run ${run.id} is ${run.state}` });
}
