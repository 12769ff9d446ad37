CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.assets (
    digest text NOT NULL,
    kind character varying(16) NOT NULL,
    address text NOT NULL,
    info jsonb NOT NULL,
    CONSTRAINT ck_assets_kind CHECK (((kind)::text = ANY ((ARRAY['image'::character varying, 'video'::character varying])::text[])))
);
CREATE TABLE public.conditions (
    shot_id text NOT NULL,
    index integer NOT NULL,
    kind character varying(16) NOT NULL,
    frame integer NOT NULL,
    frames integer NOT NULL,
    asset text NOT NULL,
    rendition_address text NOT NULL,
    rendition_spec jsonb NOT NULL,
    target_address text,
    target_spec jsonb,
    CONSTRAINT ck_conditions_counts CHECK (((frame >= 0) AND (frames >= 1))),
    CONSTRAINT ck_conditions_kind CHECK (((kind)::text = ANY ((ARRAY['keyframe'::character varying, 'clip'::character varying])::text[]))),
    CONSTRAINT ck_conditions_target_is_whole CHECK (((target_address IS NULL) = (target_spec IS NULL)))
);
CREATE TABLE public.curated (
    key text NOT NULL,
    address text NOT NULL
);
CREATE TABLE public.deliverables (
    storyboard_id text NOT NULL,
    kind character varying(16) NOT NULL,
    address text NOT NULL,
    bytes bigint NOT NULL,
    info jsonb NOT NULL,
    CONSTRAINT ck_deliverables_kind CHECK (((kind)::text = ANY ((ARRAY['film'::character varying, 'sheet'::character varying, 'record'::character varying])::text[])))
);
CREATE TABLE public.embeddings (
    key text NOT NULL,
    address text NOT NULL
);
CREATE TABLE public.scores (
    take_id text NOT NULL,
    index integer NOT NULL,
    name text NOT NULL,
    value double precision NOT NULL,
    frame integer,
    detail text DEFAULT ''::text NOT NULL
);
CREATE TABLE public.segments (
    key text NOT NULL,
    state character varying(16) DEFAULT 'waiting'::character varying NOT NULL,
    steps integer NOT NULL,
    latents_address text,
    checkpoint_address text,
    checkpoint_step integer DEFAULT 0 NOT NULL,
    denoise_steps_run integer DEFAULT 0 NOT NULL,
    lease_holder text,
    lease_token bigint DEFAULT 0 NOT NULL,
    lease_since timestamp with time zone,
    lease_beat_at timestamp with time zone,
    lease_expires_at timestamp with time zone,
    error text,
    enlarged_address text,
    CONSTRAINT ck_segments_done_has_latents CHECK ((((state)::text = 'done'::text) = (latents_address IS NOT NULL))),
    CONSTRAINT ck_segments_failed_has_error CHECK ((((state)::text = 'failed'::text) = (error IS NOT NULL))),
    CONSTRAINT ck_segments_running_has_lease CHECK (((((state)::text = 'running'::text) = (lease_holder IS NOT NULL)) AND ((lease_holder IS NULL) = (lease_since IS NULL)) AND ((lease_holder IS NULL) = (lease_beat_at IS NULL)) AND ((lease_holder IS NULL) = (lease_expires_at IS NULL)))),
    CONSTRAINT ck_segments_state CHECK (((state)::text = ANY ((ARRAY['waiting'::character varying, 'running'::character varying, 'done'::character varying, 'failed'::character varying])::text[]))),
    CONSTRAINT ck_segments_steps CHECK (((steps >= 1) AND ((checkpoint_step >= 0) AND (checkpoint_step <= steps)) AND (denoise_steps_run >= 0) AND ((checkpoint_address IS NOT NULL) OR (checkpoint_step = 0))))
);
CREATE TABLE public.shots (
    id text NOT NULL,
    storyboard_id text NOT NULL,
    index integer NOT NULL,
    name text,
    frames integer NOT NULL,
    seed bigint NOT NULL,
    state character varying(16) DEFAULT 'planned'::character varying NOT NULL,
    error text,
    draft_asset text,
    draft_address text,
    draft_spec jsonb,
    CONSTRAINT ck_shots_counts CHECK (((index >= 0) AND (frames >= 1))),
    CONSTRAINT ck_shots_draft_is_whole CHECK ((((draft_asset IS NULL) = (draft_address IS NULL)) AND ((draft_asset IS NULL) = (draft_spec IS NULL)))),
    CONSTRAINT ck_shots_state CHECK (((state)::text = ANY ((ARRAY['planned'::character varying, 'rendering'::character varying, 'done'::character varying, 'review'::character varying, 'failed'::character varying])::text[])))
);
CREATE TABLE public.storyboards (
    id text NOT NULL,
    title text NOT NULL,
    document jsonb NOT NULL,
    variant text,
    parent_id text,
    state character varying(16) DEFAULT 'submitted'::character varying NOT NULL,
    error text,
    due_at timestamp with time zone,
    flow_run_id text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT ck_storyboards_parent_has_variant CHECK (((parent_id IS NULL) OR (variant IS NOT NULL))),
    CONSTRAINT ck_storyboards_state CHECK (((state)::text = ANY ((ARRAY['submitted'::character varying, 'rendering'::character varying, 'done'::character varying, 'review'::character varying, 'failed'::character varying])::text[])))
);
CREATE TABLE public.take_segments (
    take_id text NOT NULL,
    index integer NOT NULL,
    key text NOT NULL,
    start integer NOT NULL,
    stop integer NOT NULL,
    tail integer NOT NULL,
    stage character varying(16) DEFAULT 'base'::character varying NOT NULL,
    CONSTRAINT ck_take_segments_stage CHECK (((stage)::text = ANY ((ARRAY['base'::character varying, 'upscale'::character varying])::text[]))),
    CONSTRAINT ck_take_segments_window CHECK (((index >= 0) AND (start >= 0) AND (tail >= 0) AND ((start + tail) < stop)))
);
CREATE TABLE public.takes (
    id text NOT NULL,
    shot_id text NOT NULL,
    attempt integer NOT NULL,
    seed bigint NOT NULL,
    state character varying(16) DEFAULT 'rendering'::character varying NOT NULL,
    mezzanine_address text,
    verdict character varying(16),
    reasons jsonb DEFAULT '[]'::jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT ck_takes_attempt CHECK ((attempt >= 0)),
    CONSTRAINT ck_takes_rendered_has_mezzanine CHECK ((((state)::text = 'rendered'::text) = (mezzanine_address IS NOT NULL))),
    CONSTRAINT ck_takes_state CHECK (((state)::text = ANY ((ARRAY['rendering'::character varying, 'rendered'::character varying])::text[]))),
    CONSTRAINT ck_takes_verdict CHECK (((verdict)::text = ANY ((ARRAY['pass'::character varying, 'retake'::character varying, 'review'::character varying])::text[]))),
    CONSTRAINT ck_takes_verdict_has_mezzanine CHECK (((verdict IS NULL) OR (mezzanine_address IS NOT NULL)))
);
CREATE TABLE public.thresholds (
    name text NOT NULL,
    retake_below double precision,
    retake_above double precision,
    review_below double precision,
    review_above double precision
);
INSERT INTO public.alembic_version (version_num) VALUES ('0004');
INSERT INTO public.assets (digest, kind, address, info) VALUES ('0cc2a4a04051814c56aa816c6400b6a786a6935886a644647729a520495033ca', 'video', 'assets/0c/0cc2a4a04051814c56aa816c6400b6a786a6935886a644647729a520495033ca.mp4', '{"fps": "16", "vfr": false, "kind": "video", "width": 64, "format": "mov,mp4,m4a,3gp,3g2,mj2", "frames": 9, "height": 64, "matrix": null, "duration": 0.5625, "rotation": 0, "transfer": null, "has_alpha": false, "has_audio": false, "full_range": false, "interlaced": false, "pixel_format": "yuv420p"}');
INSERT INTO public.assets (digest, kind, address, info) VALUES ('2dcd6110be40184e145c4396a1c90f691849ebc0f27e76d9013339dae13345f8', 'image', 'assets/2d/2dcd6110be40184e145c4396a1c90f691849ebc0f27e76d9013339dae13345f8.png', '{"fps": null, "vfr": false, "kind": "image", "width": 96, "format": "png", "frames": null, "height": 64, "matrix": null, "duration": null, "rotation": 0, "transfer": null, "has_alpha": false, "has_audio": false, "full_range": true, "interlaced": false, "pixel_format": "RGB"}');
INSERT INTO public.assets (digest, kind, address, info) VALUES ('21e7989afedd9185f0eaf483c37f1a9672114e4f0a155b35c9219e92116f91ca', 'image', 'assets/21/21e7989afedd9185f0eaf483c37f1a9672114e4f0a155b35c9219e92116f91ca.png', '{"fps": null, "vfr": false, "kind": "image", "width": 64, "format": "png", "frames": null, "height": 64, "matrix": null, "duration": null, "rotation": 0, "transfer": null, "has_alpha": false, "has_audio": false, "full_range": true, "interlaced": false, "pixel_format": "RGB"}');
INSERT INTO public.assets (digest, kind, address, info) VALUES ('6a19c0518c24b6bb7ae22ceb902624e7f631576dc3d157ef2eda8c9513528727', 'image', 'assets/6a/6a19c0518c24b6bb7ae22ceb902624e7f631576dc3d157ef2eda8c9513528727.png', '{"fps": null, "vfr": false, "kind": "image", "width": 64, "format": "png", "frames": null, "height": 64, "matrix": null, "duration": null, "rotation": 0, "transfer": null, "has_alpha": false, "has_audio": false, "full_range": true, "interlaced": false, "pixel_format": "RGB"}');
INSERT INTO public.conditions (shot_id, index, kind, frame, frames, asset, rendition_address, rendition_spec, target_address, target_spec) VALUES ('sb-2h482rmd-s0', 0, 'keyframe', 0, 1, '6a19c0518c24b6bb7ae22ceb902624e7f631576dc3d157ef2eda8c9513528727', 'renditions/6a/6a19c0518c24b6bb7ae22ceb902624e7f631576dc3d157ef2eda8c9513528727.png', '{"fit": "crop", "width": 64, "height": 64}', NULL, NULL);
INSERT INTO public.conditions (shot_id, index, kind, frame, frames, asset, rendition_address, rendition_spec, target_address, target_spec) VALUES ('sb-2h482rmd-s0', 1, 'keyframe', 12, 1, '2dcd6110be40184e145c4396a1c90f691849ebc0f27e76d9013339dae13345f8', 'renditions/d5/d519d01c63b3717f3e172bd6684dadd6063a382ce391db4436db87a97921baa0.png', '{"fit": "crop", "width": 64, "height": 64}', NULL, NULL);
INSERT INTO public.conditions (shot_id, index, kind, frame, frames, asset, rendition_address, rendition_spec, target_address, target_spec) VALUES ('sb-2h482rmd-s0', 2, 'clip', 16, 9, '0cc2a4a04051814c56aa816c6400b6a786a6935886a644647729a520495033ca', 'renditions/a9/a90a92f122d397f9c98cf195bb2ba91e8c07f0f01547079c573d471dbf7b40c6.mkv', '{"in": 0.0, "fit": "crop", "fps": "16", "out": 0.5625, "width": 64, "height": 64}', NULL, NULL);
INSERT INTO public.conditions (shot_id, index, kind, frame, frames, asset, rendition_address, rendition_spec, target_address, target_spec) VALUES ('sb-2h482rmd-s1', 0, 'keyframe', 0, 1, '21e7989afedd9185f0eaf483c37f1a9672114e4f0a155b35c9219e92116f91ca', 'renditions/21/21e7989afedd9185f0eaf483c37f1a9672114e4f0a155b35c9219e92116f91ca.png', '{"fit": "crop", "width": 64, "height": 64}', NULL, NULL);
INSERT INTO public.conditions (shot_id, index, kind, frame, frames, asset, rendition_address, rendition_spec, target_address, target_spec) VALUES ('sb-2h482rmd-s2', 0, 'keyframe', 0, 1, '21e7989afedd9185f0eaf483c37f1a9672114e4f0a155b35c9219e92116f91ca', 'renditions/21/21e7989afedd9185f0eaf483c37f1a9672114e4f0a155b35c9219e92116f91ca.png', '{"fit": "crop", "width": 64, "height": 64}', NULL, NULL);
INSERT INTO public.conditions (shot_id, index, kind, frame, frames, asset, rendition_address, rendition_spec, target_address, target_spec) VALUES ('sb-2h482rmd-s2', 1, 'keyframe', 8, 1, '6a19c0518c24b6bb7ae22ceb902624e7f631576dc3d157ef2eda8c9513528727', 'renditions/6a/6a19c0518c24b6bb7ae22ceb902624e7f631576dc3d157ef2eda8c9513528727.png', '{"fit": "crop", "width": 64, "height": 64}', NULL, NULL);
INSERT INTO public.conditions (shot_id, index, kind, frame, frames, asset, rendition_address, rendition_spec, target_address, target_spec) VALUES ('sb-bg86rutk-s0', 0, 'keyframe', 0, 1, '2dcd6110be40184e145c4396a1c90f691849ebc0f27e76d9013339dae13345f8', 'renditions/d5/d519d01c63b3717f3e172bd6684dadd6063a382ce391db4436db87a97921baa0.png', '{"fit": "crop", "width": 64, "height": 64}', 'renditions/a2/a2867d375615cabed1ed993484d707363a919a5bae8810154c1b4e808d8075aa.png', '{"fit": "crop", "width": 96, "height": 96}');
INSERT INTO public.conditions (shot_id, index, kind, frame, frames, asset, rendition_address, rendition_spec, target_address, target_spec) VALUES ('sb-bg86rutk-s0', 1, 'keyframe', 24, 1, '21e7989afedd9185f0eaf483c37f1a9672114e4f0a155b35c9219e92116f91ca', 'renditions/21/21e7989afedd9185f0eaf483c37f1a9672114e4f0a155b35c9219e92116f91ca.png', '{"fit": "crop", "width": 64, "height": 64}', 'renditions/ac/ace82253f02e8e9031b80a4dbc3873eb8c9ecfff3e2c1a184081ea7e25fb00c4.png', '{"fit": "crop", "width": 96, "height": 96}');
INSERT INTO public.conditions (shot_id, index, kind, frame, frames, asset, rendition_address, rendition_spec, target_address, target_spec) VALUES ('sb-56pxuuvb-s0', 0, 'keyframe', 0, 1, '6a19c0518c24b6bb7ae22ceb902624e7f631576dc3d157ef2eda8c9513528727', 'renditions/6a/6a19c0518c24b6bb7ae22ceb902624e7f631576dc3d157ef2eda8c9513528727.png', '{"fit": "crop", "width": 64, "height": 64}', NULL, NULL);
INSERT INTO public.conditions (shot_id, index, kind, frame, frames, asset, rendition_address, rendition_spec, target_address, target_spec) VALUES ('sb-56pxuuvb-s0', 1, 'keyframe', 24, 1, '21e7989afedd9185f0eaf483c37f1a9672114e4f0a155b35c9219e92116f91ca', 'renditions/21/21e7989afedd9185f0eaf483c37f1a9672114e4f0a155b35c9219e92116f91ca.png', '{"fit": "crop", "width": 64, "height": 64}', NULL, NULL);
INSERT INTO public.deliverables (storyboard_id, kind, address, bytes, info) VALUES ('sb-2h482rmd', 'film', 'deliverables/04/04d1693ded7cab1b95ce9ea8a20164a62e4197cdfb6c07c94faa8e3917f77e4e.mp4', 9660, '{"name": "a-walk-by-the-sea-sb-2h482rmd.smoke.mp4"}');
INSERT INTO public.deliverables (storyboard_id, kind, address, bytes, info) VALUES ('sb-2h482rmd', 'sheet', 'deliverables/d6/d68596f536394eb51fb2defbfd70b1c68349b8c3d520638124005e9158769675.png', 116866, '{"name": "a-walk-by-the-sea-sb-2h482rmd.smoke.png"}');
INSERT INTO public.deliverables (storyboard_id, kind, address, bytes, info) VALUES ('sb-2h482rmd', 'record', 'deliverables/7a/7a32494daa5a8640f0d2484efcd2fe548048711593124fc202e0dcb5829052a8.json', 12252, '{"name": "a-walk-by-the-sea-sb-2h482rmd.smoke.json"}');
INSERT INTO public.embeddings (key, address) VALUES ('93b6483a819cf86734d37c06d3c0cc4c490d8b7e50eac1c84ac7a19e6196c314', 'embeddings/0a/0a070c6297d0b23dc4ee728ca9f69cb8a9fe704949cd5908d022320aac4a1e1f.safetensors');
INSERT INTO public.embeddings (key, address) VALUES ('4eef36941bbb2ce8222d926fc34ff0e1262b1c660a8b5c906f045bd99aa39274', 'embeddings/7a/7a76fa35d2930d6516eb7d371e1939cb07f9b111d54043d8df23958cbff6ae0d.safetensors');
INSERT INTO public.embeddings (key, address) VALUES ('f2a799f3a7193ca42d19f7c4c8b007b5dd6b03718985f070f637805ceb9503cc', 'embeddings/da/dad03d931adbb04574806f2a55c3f8d9be60da4f28ff4aedbb09286e41660220.safetensors');
INSERT INTO public.embeddings (key, address) VALUES ('d90239585dc5ee1f9736170f4c2d48bf84e0710672226297f61451cc0782e73a', 'embeddings/90/909f67653c048b06f2d62e779bebb8ea1d9e549a26bcdfce26e354280a00b783.safetensors');
INSERT INTO public.embeddings (key, address) VALUES ('6704aba602b7095051448716b5424962293478290c468944f447066cac991836', 'embeddings/7a/7abd23fb07ba5bee3f31753a5b70fd977fee3fef3bb8964279bf0b1d909eee17.safetensors');
INSERT INTO public.embeddings (key, address) VALUES ('e6b029bb3e0e835089e1e29e9f81e35c0fbfaa554b2296441891826a31b0fb88', 'embeddings/11/1178427e48ff1570a43c698f064c25e38e1c79246dbff3f7ad11257d221b96b3.safetensors');
INSERT INTO public.embeddings (key, address) VALUES ('864184f0368d6266dcbcaab8846b44ef1e39c4366ce92bec9828551453581eeb', 'embeddings/8a/8a0b148c55a098abccf06026336e7795d9772851f8d8d3ee0968a34c3349b40b.safetensors');
INSERT INTO public.embeddings (key, address) VALUES ('e90ed3284d3c3f3475eb7a4c452d1ceba41a90ab6313f72d2cc565ef3dd2e37e', 'embeddings/5d/5ddcee23f6462d660fda3ef08a4a4bffec19402c4f914a71278d8d1bd23204bc.safetensors');
INSERT INTO public.embeddings (key, address) VALUES ('97b54f7bb28f569dd1acbebd20482a1aed70b18ca2af35090f22a0da90af4392', 'embeddings/7c/7c7e05d5b5482c426c1cad6e490d75d1701f3c05c033a7af0fa30cfb7c0379fe.safetensors');
INSERT INTO public.embeddings (key, address) VALUES ('697ca9b037e9976d81b832a611feddfc992f53f88715e0896ca5bfee51f6893f', 'embeddings/09/09c600d38072205dd9a7add81b72ead1939e6cc6f3580683ae5640b90cbd442b.safetensors');
INSERT INTO public.scores (take_id, index, name, value, frame, detail) VALUES ('sb-2h482rmd-s0-t0', 0, 'keyframe_fidelity', 0.18146584928035736, 12, 'keyframe 0.0 s: 0.245; keyframe 0.8 s: 0.181; clip 1.0-1.6 s: 0.296');
INSERT INTO public.scores (take_id, index, name, value, frame, detail) VALUES ('sb-2h482rmd-s0-t0', 1, 'cuts', 1, 4, '0.25 s: 23');
INSERT INTO public.scores (take_id, index, name, value, frame, detail) VALUES ('sb-2h482rmd-s0-t0', 2, 'cut_strength', 23.125212296195652, 4, '');
INSERT INTO public.scores (take_id, index, name, value, frame, detail) VALUES ('sb-2h482rmd-s0-t0', 3, 'cut_severity', 2.61650013923645, 2, '0.12 s: 2.6');
INSERT INTO public.scores (take_id, index, name, value, frame, detail) VALUES ('sb-2h482rmd-s0-t0', 4, 'freeze', 0.8571428571428571, 3, 'movement is due in 14 of 25 frames');
INSERT INTO public.scores (take_id, index, name, value, frame, detail) VALUES ('sb-2h482rmd-s0-t0', 5, 'freeze_longest', 0.5625, 3, 'movement is due in 14 of 25 frames');
INSERT INTO public.scores (take_id, index, name, value, frame, detail) VALUES ('sb-2h482rmd-s0-t0', 6, 'dissolve', 0, NULL, '');
INSERT INTO public.scores (take_id, index, name, value, frame, detail) VALUES ('sb-2h482rmd-s0-t0', 7, 'seam', 1.909277605909135, 9, '0.56 s: 1.91; 1.06 s: 0.91');
INSERT INTO public.scores (take_id, index, name, value, frame, detail) VALUES ('sb-2h482rmd-s0-t0', 8, 'flicker', 19.4498291015625, 1, '');
INSERT INTO public.scores (take_id, index, name, value, frame, detail) VALUES ('sb-2h482rmd-s0-t0', 9, 'motion_jolt', 4.070501327514648, 2, '');
INSERT INTO public.scores (take_id, index, name, value, frame, detail) VALUES ('sb-2h482rmd-s0-t0', 10, 'colour_drift', 3.1219152768624716, 2, '');
INSERT INTO public.scores (take_id, index, name, value, frame, detail) VALUES ('sb-2h482rmd-s1-t0', 0, 'keyframe_fidelity', 0.19141851365566254, 0, 'keyframe 0.0 s: 0.191');
INSERT INTO public.scores (take_id, index, name, value, frame, detail) VALUES ('sb-2h482rmd-s1-t0', 1, 'cuts', 1, 4, '0.25 s: 23');
INSERT INTO public.scores (take_id, index, name, value, frame, detail) VALUES ('sb-2h482rmd-s1-t0', 2, 'cut_strength', 23.108058763586957, 4, '');
INSERT INTO public.scores (take_id, index, name, value, frame, detail) VALUES ('sb-2h482rmd-s1-t0', 3, 'cut_severity', 2.6109299659729004, 2, '0.12 s: 2.6');
INSERT INTO public.scores (take_id, index, name, value, frame, detail) VALUES ('sb-2h482rmd-s1-t0', 4, 'freeze', 0, NULL, 'movement is due in 0 of 16 frames');
INSERT INTO public.scores (take_id, index, name, value, frame, detail) VALUES ('sb-2h482rmd-s1-t0', 5, 'freeze_longest', 0, NULL, 'movement is due in 0 of 16 frames');
INSERT INTO public.scores (take_id, index, name, value, frame, detail) VALUES ('sb-2h482rmd-s1-t0', 6, 'dissolve', 0, NULL, '');
INSERT INTO public.scores (take_id, index, name, value, frame, detail) VALUES ('sb-2h482rmd-s1-t0', 7, 'seam', 8.082321834206354, 0, '0.56 s: 0.55; 0.81 s: 0.28; the loop''s end: 8.08');
INSERT INTO public.scores (take_id, index, name, value, frame, detail) VALUES ('sb-2h482rmd-s1-t0', 8, 'flicker', 19.433349609375, 1, '');
INSERT INTO public.scores (take_id, index, name, value, frame, detail) VALUES ('sb-2h482rmd-s1-t0', 9, 'motion_jolt', 3.9204864501953125, 2, '');
INSERT INTO public.scores (take_id, index, name, value, frame, detail) VALUES ('sb-2h482rmd-s1-t0', 10, 'colour_drift', 3.3880770518189207, 7, '');
INSERT INTO public.scores (take_id, index, name, value, frame, detail) VALUES ('sb-2h482rmd-s2-t0', 0, 'keyframe_fidelity', 0.19165045022964478, 0, 'keyframe 0.0 s: 0.192; keyframe 0.5 s: 0.248');
INSERT INTO public.scores (take_id, index, name, value, frame, detail) VALUES ('sb-2h482rmd-s2-t0', 1, 'cuts', 0, NULL, '');
INSERT INTO public.scores (take_id, index, name, value, frame, detail) VALUES ('sb-2h482rmd-s2-t0', 2, 'cut_strength', 0, NULL, '');
INSERT INTO public.scores (take_id, index, name, value, frame, detail) VALUES ('sb-2h482rmd-s2-t0', 3, 'cut_severity', 2.6111679077148438, 2, '0.12 s: 2.6');
INSERT INTO public.scores (take_id, index, name, value, frame, detail) VALUES ('sb-2h482rmd-s2-t0', 4, 'freeze', 0.5714285714285714, 4, 'movement is due in 7 of 9 frames');
INSERT INTO public.scores (take_id, index, name, value, frame, detail) VALUES ('sb-2h482rmd-s2-t0', 5, 'freeze_longest', 0.25, 4, 'movement is due in 7 of 9 frames');
INSERT INTO public.scores (take_id, index, name, value, frame, detail) VALUES ('sb-2h482rmd-s2-t0', 6, 'dissolve', 0, NULL, '');
INSERT INTO public.scores (take_id, index, name, value, frame, detail) VALUES ('sb-2h482rmd-s2-t0', 7, 'seam', 1, NULL, 'no joins');
INSERT INTO public.scores (take_id, index, name, value, frame, detail) VALUES ('sb-2h482rmd-s2-t0', 8, 'flicker', 19.385986328125, 1, '');
INSERT INTO public.scores (take_id, index, name, value, frame, detail) VALUES ('sb-2h482rmd-s2-t0', 9, 'motion_jolt', 3.4408421516418457, 2, '');
INSERT INTO public.scores (take_id, index, name, value, frame, detail) VALUES ('sb-2h482rmd-s2-t0', 10, 'colour_drift', 0.36792044481080194, 4, '');
INSERT INTO public.segments (key, state, steps, latents_address, checkpoint_address, checkpoint_step, denoise_steps_run, lease_holder, lease_token, lease_since, lease_beat_at, lease_expires_at, error, enlarged_address) VALUES ('a11463555c7bb8d0f400e937c82173cfb6039b043818f18ca1a978a7d53e65fb', 'done', 6, 'latents/4d/4def55055ef14ad66e978e300cf6b1f2ff6175198ed471075313c9390115626e.safetensors', NULL, 0, 6, NULL, 1, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.segments (key, state, steps, latents_address, checkpoint_address, checkpoint_step, denoise_steps_run, lease_holder, lease_token, lease_since, lease_beat_at, lease_expires_at, error, enlarged_address) VALUES ('5bb1a75821a188869f8b4e4a0e5a2378f6f71dc06bfdc4b49539f693931e3d4b', 'done', 8, 'latents/b7/b72c290e6326d3fa374b356e13821918a571bb416b3f37c85affb3ef1d054ef5.safetensors', NULL, 0, 6, NULL, 1, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.segments (key, state, steps, latents_address, checkpoint_address, checkpoint_step, denoise_steps_run, lease_holder, lease_token, lease_since, lease_beat_at, lease_expires_at, error, enlarged_address) VALUES ('9d90cd6152769e6226275b886f1d1f4028132634af618da0bc4905480a36acd5', 'done', 6, 'latents/eb/eb1ade6b07350c9a7e63d019d8096422965dd016f7c87bd2972f3ec4e132ff5a.safetensors', NULL, 0, 6, NULL, 1, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.segments (key, state, steps, latents_address, checkpoint_address, checkpoint_step, denoise_steps_run, lease_holder, lease_token, lease_since, lease_beat_at, lease_expires_at, error, enlarged_address) VALUES ('d9e07c1483ced251f7ce47d74bdc9b89a31603cf73d2b6b30233b530e86bef42', 'done', 6, 'latents/73/735fb688738a87c630ae5e3de1b80db7b71545e57327508308417a5c287e3791.safetensors', NULL, 0, 6, NULL, 1, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.segments (key, state, steps, latents_address, checkpoint_address, checkpoint_step, denoise_steps_run, lease_holder, lease_token, lease_since, lease_beat_at, lease_expires_at, error, enlarged_address) VALUES ('42af3c087baeed394df60a08a44ba1b581a22a5b342a183cde5e4c40d4eb9dff', 'done', 6, 'latents/3f/3fda4aabcf12bef656ada3c589c3abc9d270ebaa5cbb326ffecfb9f2dd79cf97.safetensors', NULL, 0, 3, NULL, 1, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.segments (key, state, steps, latents_address, checkpoint_address, checkpoint_step, denoise_steps_run, lease_holder, lease_token, lease_since, lease_beat_at, lease_expires_at, error, enlarged_address) VALUES ('1622afe8efdc83f72a0aec31f9ba5a7616ff6dff52cae918f71df0b2fc6aded2', 'waiting', 6, NULL, NULL, 0, 0, NULL, 0, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.segments (key, state, steps, latents_address, checkpoint_address, checkpoint_step, denoise_steps_run, lease_holder, lease_token, lease_since, lease_beat_at, lease_expires_at, error, enlarged_address) VALUES ('3bd220d1401eb6f8951698efc9b2e92e57daf8a71fc2bcf66e8c00a49edd4eb3', 'done', 6, 'latents/09/09a8ba0dd18d3cc5e51770baaf0f4e2615f14e088941c6551cb80338a163d38c.safetensors', NULL, 0, 6, NULL, 1, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.segments (key, state, steps, latents_address, checkpoint_address, checkpoint_step, denoise_steps_run, lease_holder, lease_token, lease_since, lease_beat_at, lease_expires_at, error, enlarged_address) VALUES ('dfe59b5b63c4851c2a720f98f171fecd0f8f614cdce44c624283f789a28c1400', 'running', 8, NULL, 'checkpoints/bb/bb42c8f1845b372162b1b5b17d3d7a02e563a0f570eaba4c7510eddf69037f73.safetensors', 6, 4, 'studio:4242', 1, '2026-12-01 07:19:02.843705+00', '2026-12-01 07:19:03.173184+00', '2026-12-01 07:19:04.673184+00', NULL, 'enlarged/95/95b7cd040c51170c99699ba70bba8de073694955da6cfa3ff1e619984da32929.safetensors');
INSERT INTO public.segments (key, state, steps, latents_address, checkpoint_address, checkpoint_step, denoise_steps_run, lease_holder, lease_token, lease_since, lease_beat_at, lease_expires_at, error, enlarged_address) VALUES ('3f7864bf3044ddd7be489dad3bd6819a599c5ce348d6d084798593080f07edeb', 'done', 6, 'latents/36/36275b8d7a58908b72edd167fb1a8640eaa71df6216cfff161c8b234980c10d3.safetensors', NULL, 0, 6, NULL, 1, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.segments (key, state, steps, latents_address, checkpoint_address, checkpoint_step, denoise_steps_run, lease_holder, lease_token, lease_since, lease_beat_at, lease_expires_at, error, enlarged_address) VALUES ('a189412ec7077dee6cad7d7c10c3476b26e7538ee8a65c9f9b90234de2da6507', 'done', 6, 'latents/e2/e2837fe35361e9b699185aed57318384de8b2234643a6715cc15ee3b7442b716.safetensors', NULL, 0, 6, NULL, 1, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.segments (key, state, steps, latents_address, checkpoint_address, checkpoint_step, denoise_steps_run, lease_holder, lease_token, lease_since, lease_beat_at, lease_expires_at, error, enlarged_address) VALUES ('240277d77adee5c794eabcae3674fd48333e6414cba21fee66c53b3931b5b833', 'done', 6, 'latents/54/54fdd99cf58a5a68adaba9fef37f6eea36270de8c4f85233785275eb5a51dd89.safetensors', NULL, 0, 6, NULL, 1, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.segments (key, state, steps, latents_address, checkpoint_address, checkpoint_step, denoise_steps_run, lease_holder, lease_token, lease_since, lease_beat_at, lease_expires_at, error, enlarged_address) VALUES ('84df48ee7f34be2695143e7f5b53247a995869a1a11d6fef581974d4aaa68517', 'done', 6, 'latents/c7/c795ab2ab201d9f1f323791a4d36617a2c5ddb2d567867cf5f502bf679e59130.safetensors', NULL, 0, 6, NULL, 1, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.segments (key, state, steps, latents_address, checkpoint_address, checkpoint_step, denoise_steps_run, lease_holder, lease_token, lease_since, lease_beat_at, lease_expires_at, error, enlarged_address) VALUES ('02e5efe8df2133c6a453ca5f0a91dd4df35ec9ababbe8ee3b4c2187a3075d0ac', 'waiting', 8, NULL, NULL, 0, 0, NULL, 0, NULL, NULL, NULL, NULL, 'enlarged/77/77f6d788c0071d939469526da0acd711e6d9c0588d66a644ead80b96362b7003.safetensors');
INSERT INTO public.segments (key, state, steps, latents_address, checkpoint_address, checkpoint_step, denoise_steps_run, lease_holder, lease_token, lease_since, lease_beat_at, lease_expires_at, error, enlarged_address) VALUES ('fb552df3cb4516bf70569ce92dca803c0a442147a5aa9f88150efaa264a76839', 'waiting', 6, NULL, 'checkpoints/00/0025a37e242fbb377e632f945b2c7bcbd19ffceea34bd4fd7c7ac77b0bee37b7.safetensors', 4, 4, NULL, 1, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.segments (key, state, steps, latents_address, checkpoint_address, checkpoint_step, denoise_steps_run, lease_holder, lease_token, lease_since, lease_beat_at, lease_expires_at, error, enlarged_address) VALUES ('3107ae1211f0bf2a6e7404ad74ca004b00b5e1954dc28e589fe1b59c8b775ce9', 'done', 6, 'latents/a4/a48afddb4e35fdb3f78034bf82f718a5a7945a262ba1e53b2bc322f86773be42.safetensors', NULL, 0, 6, NULL, 1, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.segments (key, state, steps, latents_address, checkpoint_address, checkpoint_step, denoise_steps_run, lease_holder, lease_token, lease_since, lease_beat_at, lease_expires_at, error, enlarged_address) VALUES ('aaec5cfb66f1535a7a064a9683f269dc1a9aeee374a240b9b6b878203b4af242', 'done', 6, 'latents/16/16f35fa0783aa0d85359af6a95f515d710ecbb246b2f7d3b039ddac1414a8ddd.safetensors', NULL, 0, 6, NULL, 1, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.shots (id, storyboard_id, index, name, frames, seed, state, error, draft_asset, draft_address, draft_spec) VALUES ('sb-2h482rmd-s0', 'sb-2h482rmd', 0, 'walk', 25, 2657268139684344268, 'done', NULL, NULL, NULL, NULL);
INSERT INTO public.shots (id, storyboard_id, index, name, frames, seed, state, error, draft_asset, draft_address, draft_spec) VALUES ('sb-2h482rmd-s1', 'sb-2h482rmd', 1, 'turn', 16, 4457648590589241579, 'done', NULL, NULL, NULL, NULL);
INSERT INTO public.shots (id, storyboard_id, index, name, frames, seed, state, error, draft_asset, draft_address, draft_spec) VALUES ('sb-2h482rmd-s2', 'sb-2h482rmd', 2, 'flow', 9, 2056913272644004323, 'done', NULL, NULL, NULL, NULL);
INSERT INTO public.shots (id, storyboard_id, index, name, frames, seed, state, error, draft_asset, draft_address, draft_spec) VALUES ('sb-56pxuuvb-s0', 'sb-56pxuuvb', 0, 'shore', 25, 2968588646541310770, 'rendering', NULL, NULL, NULL, NULL);
INSERT INTO public.shots (id, storyboard_id, index, name, frames, seed, state, error, draft_asset, draft_address, draft_spec) VALUES ('sb-bg86rutk-s0', 'sb-bg86rutk', 0, 'sea', 25, 7327025957436672800, 'rendering', NULL, NULL, NULL, NULL);
INSERT INTO public.storyboards (id, title, document, variant, parent_id, state, error, due_at, flow_run_id, created_at) VALUES ('sb-56pxuuvb', 'The sea, guided', '{"fps": 16, "seed": 7, "size": {"width": 64, "height": 64}, "shots": [{"loop": false, "name": "shore", "seed": null, "clips": [], "draft": null, "prompts": [{"end": 0.7, "text": "the shore", "start": 0}, {"end": 1.5, "text": "the shore at dusk", "start": 0.7}], "duration": {"frames": 25}, "strength": null, "keyframes": [{"at": null, "fit": "crop", "frame": 0, "image": "still0.png"}, {"at": null, "fit": "crop", "frame": 24, "image": "still1.png"}]}], "title": "The sea, guided", "sampler": {"steps": null, "guidance": 2.0, "image_guidance": 1.5}, "upscale": null, "negative_prompt": "blur"}', NULL, NULL, 'rendering', NULL, NULL, NULL, '2026-12-01 07:18:44.675965+00');
INSERT INTO public.storyboards (id, title, document, variant, parent_id, state, error, due_at, flow_run_id, created_at) VALUES ('sb-2h482rmd', 'A walk by the sea', '{"fps": 16, "seed": 5, "size": {"width": 64, "height": 64}, "shots": [{"loop": false, "name": "walk", "seed": null, "clips": [{"at": null, "in": 0, "fit": "crop", "out": null, "frame": 16, "video": "drift.mp4"}], "draft": null, "prompts": [{"end": 0.7, "text": "pan left", "start": 0}, {"end": 1.5, "text": "zoom in", "start": 0.7}], "duration": {"frames": 25}, "strength": null, "keyframes": [{"at": null, "fit": "crop", "frame": 0, "image": "still0.png"}, {"at": null, "fit": "crop", "frame": 12, "image": "wide.png"}]}, {"loop": true, "name": "turn", "seed": null, "clips": [], "draft": null, "prompts": [{"end": null, "text": "a slow turn", "start": 0}], "duration": {"frames": 16}, "strength": null, "keyframes": [{"at": null, "fit": "crop", "frame": 0, "image": "still1.png"}]}, {"loop": false, "name": "flow", "seed": null, "clips": [], "draft": "auto", "prompts": [], "duration": {"frames": 9}, "strength": 0.8, "keyframes": [{"at": null, "fit": "crop", "frame": 0, "image": "still1.png"}, {"at": null, "fit": "crop", "frame": 8, "image": "still0.png"}]}], "title": "A walk by the sea", "sampler": {"steps": null, "guidance": null, "image_guidance": null}, "upscale": null, "negative_prompt": ""}', NULL, NULL, 'done', NULL, NULL, '3f0f5c52-5a54-4f0e-9f6a-0d6f6f5c1b11', '2026-12-01 07:18:44.390426+00');
INSERT INTO public.storyboards (id, title, document, variant, parent_id, state, error, due_at, flow_run_id, created_at) VALUES ('sb-bg86rutk', 'The sea, larger', '{"fps": 16, "seed": 6, "size": {"width": 64, "height": 64}, "shots": [{"loop": false, "name": "sea", "seed": null, "clips": [], "draft": null, "prompts": [{"end": null, "text": "waves", "start": 0}], "duration": {"frames": 25}, "strength": null, "keyframes": [{"at": null, "fit": "crop", "frame": 0, "image": "wide.png"}, {"at": null, "fit": "crop", "frame": 24, "image": "still1.png"}]}], "title": "The sea, larger", "sampler": {"steps": null, "guidance": null, "image_guidance": null}, "upscale": 1.5, "negative_prompt": ""}', NULL, NULL, 'rendering', NULL, NULL, NULL, '2026-12-01 07:18:44.599752+00');
INSERT INTO public.take_segments (take_id, index, key, start, stop, tail, stage) VALUES ('sb-2h482rmd-s0-t0', 0, '9d90cd6152769e6226275b886f1d1f4028132634af618da0bc4905480a36acd5', 0, 3, 0, 'base');
INSERT INTO public.take_segments (take_id, index, key, start, stop, tail, stage) VALUES ('sb-2h482rmd-s0-t0', 1, '3bd220d1401eb6f8951698efc9b2e92e57daf8a71fc2bcf66e8c00a49edd4eb3', 2, 5, 1, 'base');
INSERT INTO public.take_segments (take_id, index, key, start, stop, tail, stage) VALUES ('sb-2h482rmd-s0-t0', 2, '3f7864bf3044ddd7be489dad3bd6819a599c5ce348d6d084798593080f07edeb', 4, 7, 1, 'base');
INSERT INTO public.take_segments (take_id, index, key, start, stop, tail, stage) VALUES ('sb-2h482rmd-s1-t0', 0, '84df48ee7f34be2695143e7f5b53247a995869a1a11d6fef581974d4aaa68517', 0, 3, 0, 'base');
INSERT INTO public.take_segments (take_id, index, key, start, stop, tail, stage) VALUES ('sb-2h482rmd-s1-t0', 1, '3107ae1211f0bf2a6e7404ad74ca004b00b5e1954dc28e589fe1b59c8b775ce9', 2, 4, 1, 'base');
INSERT INTO public.take_segments (take_id, index, key, start, stop, tail, stage) VALUES ('sb-2h482rmd-s1-t0', 2, 'a11463555c7bb8d0f400e937c82173cfb6039b043818f18ca1a978a7d53e65fb', 3, 6, 1, 'base');
INSERT INTO public.take_segments (take_id, index, key, start, stop, tail, stage) VALUES ('sb-2h482rmd-s2-t0', 0, '42af3c087baeed394df60a08a44ba1b581a22a5b342a183cde5e4c40d4eb9dff', 0, 3, 0, 'base');
INSERT INTO public.take_segments (take_id, index, key, start, stop, tail, stage) VALUES ('sb-56pxuuvb-s0-t0', 0, 'a189412ec7077dee6cad7d7c10c3476b26e7538ee8a65c9f9b90234de2da6507', 0, 3, 0, 'base');
INSERT INTO public.take_segments (take_id, index, key, start, stop, tail, stage) VALUES ('sb-56pxuuvb-s0-t0', 1, 'fb552df3cb4516bf70569ce92dca803c0a442147a5aa9f88150efaa264a76839', 2, 5, 1, 'base');
INSERT INTO public.take_segments (take_id, index, key, start, stop, tail, stage) VALUES ('sb-56pxuuvb-s0-t0', 2, '1622afe8efdc83f72a0aec31f9ba5a7616ff6dff52cae918f71df0b2fc6aded2', 4, 7, 1, 'base');
INSERT INTO public.take_segments (take_id, index, key, start, stop, tail, stage) VALUES ('sb-bg86rutk-s0-t0', 0, 'aaec5cfb66f1535a7a064a9683f269dc1a9aeee374a240b9b6b878203b4af242', 0, 3, 0, 'base');
INSERT INTO public.take_segments (take_id, index, key, start, stop, tail, stage) VALUES ('sb-bg86rutk-s0-t0', 1, 'd9e07c1483ced251f7ce47d74bdc9b89a31603cf73d2b6b30233b530e86bef42', 2, 5, 1, 'base');
INSERT INTO public.take_segments (take_id, index, key, start, stop, tail, stage) VALUES ('sb-bg86rutk-s0-t0', 2, '240277d77adee5c794eabcae3674fd48333e6414cba21fee66c53b3931b5b833', 4, 7, 1, 'base');
INSERT INTO public.take_segments (take_id, index, key, start, stop, tail, stage) VALUES ('sb-bg86rutk-s0-t0', 3, '5bb1a75821a188869f8b4e4a0e5a2378f6f71dc06bfdc4b49539f693931e3d4b', 0, 4, 0, 'upscale');
INSERT INTO public.take_segments (take_id, index, key, start, stop, tail, stage) VALUES ('sb-bg86rutk-s0-t0', 4, 'dfe59b5b63c4851c2a720f98f171fecd0f8f614cdce44c624283f789a28c1400', 2, 6, 2, 'upscale');
INSERT INTO public.take_segments (take_id, index, key, start, stop, tail, stage) VALUES ('sb-bg86rutk-s0-t0', 5, '02e5efe8df2133c6a453ca5f0a91dd4df35ec9ababbe8ee3b4c2187a3075d0ac', 4, 7, 2, 'upscale');
INSERT INTO public.takes (id, shot_id, attempt, seed, state, mezzanine_address, verdict, reasons, created_at) VALUES ('sb-2h482rmd-s0-t0', 'sb-2h482rmd-s0', 0, 2657268139684344268, 'rendered', 'takes/b5/b5cef7c119da8664ef55487c4ccef26365e26cc324ef584ae122a955cc9cb880.mkv', 'pass', '[]', '2026-12-01 07:18:44.785145+00');
INSERT INTO public.takes (id, shot_id, attempt, seed, state, mezzanine_address, verdict, reasons, created_at) VALUES ('sb-2h482rmd-s1-t0', 'sb-2h482rmd-s1', 0, 4457648590589241579, 'rendered', 'takes/8d/8d4761312fbf1d50b54b8c4bb870ab0079cacb6fe813f2bda11eaa51aff13cb9.mkv', 'pass', '[]', '2026-12-01 07:18:49.18652+00');
INSERT INTO public.takes (id, shot_id, attempt, seed, state, mezzanine_address, verdict, reasons, created_at) VALUES ('sb-2h482rmd-s2-t0', 'sb-2h482rmd-s2', 0, 2056913272644004323, 'rendered', 'takes/94/94d45e6d08a5faf73d87d84efa0b37a813d73883c76d906db3cc03168bce07f5.mkv', 'pass', '[]', '2026-12-01 07:18:52.514097+00');
INSERT INTO public.takes (id, shot_id, attempt, seed, state, mezzanine_address, verdict, reasons, created_at) VALUES ('sb-56pxuuvb-s0-t0', 'sb-56pxuuvb-s0', 0, 2968588646541310770, 'rendering', NULL, NULL, '[]', '2026-12-01 07:18:56.352335+00');
INSERT INTO public.takes (id, shot_id, attempt, seed, state, mezzanine_address, verdict, reasons, created_at) VALUES ('sb-bg86rutk-s0-t0', 'sb-bg86rutk-s0', 0, 7327025957436672800, 'rendering', NULL, NULL, '[]', '2026-12-01 07:18:58.133978+00');
INSERT INTO public.thresholds (name, retake_below, retake_above, review_below, review_above) VALUES ('keyframe_fidelity', -1000000, NULL, -1000000, NULL);
INSERT INTO public.thresholds (name, retake_below, retake_above, review_below, review_above) VALUES ('cuts', NULL, 1000000, NULL, NULL);
INSERT INTO public.thresholds (name, retake_below, retake_above, review_below, review_above) VALUES ('cut_severity', NULL, 1000000, NULL, 1000000);
INSERT INTO public.thresholds (name, retake_below, retake_above, review_below, review_above) VALUES ('freeze', NULL, 1000000, NULL, 1000000);
INSERT INTO public.thresholds (name, retake_below, retake_above, review_below, review_above) VALUES ('freeze_longest', NULL, 1000000, NULL, 1000000);
INSERT INTO public.thresholds (name, retake_below, retake_above, review_below, review_above) VALUES ('dissolve', NULL, 1000000, NULL, 1000000);
INSERT INTO public.thresholds (name, retake_below, retake_above, review_below, review_above) VALUES ('seam', NULL, 1000000, NULL, 1000000);
INSERT INTO public.thresholds (name, retake_below, retake_above, review_below, review_above) VALUES ('flicker', NULL, 1000000, NULL, 1000000);
INSERT INTO public.thresholds (name, retake_below, retake_above, review_below, review_above) VALUES ('motion_jolt', NULL, NULL, NULL, 1000000);
INSERT INTO public.thresholds (name, retake_below, retake_above, review_below, review_above) VALUES ('colour_drift', NULL, NULL, NULL, 1000000);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.assets
    ADD CONSTRAINT pk_assets PRIMARY KEY (digest);
ALTER TABLE ONLY public.conditions
    ADD CONSTRAINT pk_conditions PRIMARY KEY (shot_id, index);
ALTER TABLE ONLY public.curated
    ADD CONSTRAINT pk_curated PRIMARY KEY (key);
ALTER TABLE ONLY public.deliverables
    ADD CONSTRAINT pk_deliverables PRIMARY KEY (storyboard_id, kind);
ALTER TABLE ONLY public.embeddings
    ADD CONSTRAINT pk_embeddings PRIMARY KEY (key);
ALTER TABLE ONLY public.scores
    ADD CONSTRAINT pk_scores PRIMARY KEY (take_id, index);
ALTER TABLE ONLY public.segments
    ADD CONSTRAINT pk_segments PRIMARY KEY (key);
ALTER TABLE ONLY public.shots
    ADD CONSTRAINT pk_shots PRIMARY KEY (id);
ALTER TABLE ONLY public.storyboards
    ADD CONSTRAINT pk_storyboards PRIMARY KEY (id);
ALTER TABLE ONLY public.take_segments
    ADD CONSTRAINT pk_take_segments PRIMARY KEY (take_id, index);
ALTER TABLE ONLY public.takes
    ADD CONSTRAINT pk_takes PRIMARY KEY (id);
ALTER TABLE ONLY public.thresholds
    ADD CONSTRAINT pk_thresholds PRIMARY KEY (name);
ALTER TABLE ONLY public.shots
    ADD CONSTRAINT uq_shots_storyboard_id_index UNIQUE (storyboard_id, index);
ALTER TABLE ONLY public.takes
    ADD CONSTRAINT uq_takes_shot_id_attempt UNIQUE (shot_id, attempt);
CREATE INDEX ix_conditions_asset ON public.conditions USING btree (asset);
CREATE INDEX ix_shots_draft_asset ON public.shots USING btree (draft_asset);
CREATE INDEX ix_storyboards_created_at ON public.storyboards USING btree (created_at);
CREATE INDEX ix_storyboards_due_at ON public.storyboards USING btree (due_at) WHERE ((state)::text = 'submitted'::text);
CREATE INDEX ix_storyboards_parent_id ON public.storyboards USING btree (parent_id);
CREATE INDEX ix_take_segments_key ON public.take_segments USING btree (key);
ALTER TABLE ONLY public.conditions
    ADD CONSTRAINT fk_conditions_asset_assets FOREIGN KEY (asset) REFERENCES public.assets(digest);
ALTER TABLE ONLY public.conditions
    ADD CONSTRAINT fk_conditions_shot_id_shots FOREIGN KEY (shot_id) REFERENCES public.shots(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.deliverables
    ADD CONSTRAINT fk_deliverables_storyboard_id_storyboards FOREIGN KEY (storyboard_id) REFERENCES public.storyboards(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.scores
    ADD CONSTRAINT fk_scores_take_id_takes FOREIGN KEY (take_id) REFERENCES public.takes(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.shots
    ADD CONSTRAINT fk_shots_draft_asset_assets FOREIGN KEY (draft_asset) REFERENCES public.assets(digest);
ALTER TABLE ONLY public.shots
    ADD CONSTRAINT fk_shots_storyboard_id_storyboards FOREIGN KEY (storyboard_id) REFERENCES public.storyboards(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.storyboards
    ADD CONSTRAINT fk_storyboards_parent_id_storyboards FOREIGN KEY (parent_id) REFERENCES public.storyboards(id);
ALTER TABLE ONLY public.take_segments
    ADD CONSTRAINT fk_take_segments_key_segments FOREIGN KEY (key) REFERENCES public.segments(key);
ALTER TABLE ONLY public.take_segments
    ADD CONSTRAINT fk_take_segments_take_id_takes FOREIGN KEY (take_id) REFERENCES public.takes(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.takes
    ADD CONSTRAINT fk_takes_shot_id_shots FOREIGN KEY (shot_id) REFERENCES public.shots(id) ON DELETE CASCADE;
