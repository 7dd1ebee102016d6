// The server's settings that scripts obey; filled when the page is ready.

export const settings = {
  keyedit_precision_attention: 0.1,
  keyedit_precision_extra: 0.05,
  keyedit_delimiters: ".,\\/!?%^*;:{}=`~() ",
  keyedit_delimiters_whitespace: ["Tab", "Carriage Return", "Line Feed"],
  keyedit_move: true,
  disable_token_counters: false,
  live_preview_refresh_period: 1000,
  live_previews_enable: true,
  quicksettings_list: ["sd_model_checkpoint"],
  show_progress_in_title: true,
  show_progressbar: true,
};
